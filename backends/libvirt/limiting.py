"""Reading and changing the limits of guests, all or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

from backends.errors import InnkeeperError, Unsupported, UsageError
from backends.libvirt import api
from backends.libvirt.convert import HostFacts, limits_of
from backends.libvirt.domain_xml import DomainInfo, read_domain
from backends.libvirt.host import LibvirtHost, known
from backends.libvirt.journal import Call, Journal
from backends.libvirt.limit_calls import Change, LimitCall, flags_for, host_cpu_count, limit_calls
from backends.libvirt.tap import clear_queueing
from backends.metrics import Sample
from backends.model import Guest, GuestRef, LimitChanges, Limits
from backends.trace import Recorder

_FIELDS = tuple(field.name for field in fields(Limits))
_CPU = ("cpus", "cpu_weight", "cpuset")
_IO = ("io_read_bytes_per_s", "io_write_bytes_per_s", "io_read_ops_per_s", "io_write_ops_per_s", "io_devices")
_NET = ("net_rx_bytes_per_s", "net_tx_bytes_per_s")
_EMULATED = ("net_delay_s", "net_jitter_s", "net_loss_pct")

BALLOON_WAIT_S = 3.0
"""How long the guest's balloon driver is given before its size is read back."""


class Limiter:
    """Limits of the guests of one host."""

    def __init__(self, host: LibvirtHost, journal: Journal, facts: Callable[[], HostFacts]) -> None:
        self._host, self._journal, self._facts = host, journal, facts
        self._no_bandwidth = ""

    def limits(self, ref: GuestRef) -> Limits:
        """Return the limits that the domain has now."""
        known(self._host, ref)
        return limits_of(self._host.fresh_info(ref), self._facts())

    def set_limits(self, ref: GuestRef, changes: LimitChanges, recorder: Recorder) -> Limits:
        """Change them now and in the definition; what was done is taken back when a later call fails."""
        seen = known(self._host, ref)
        info = self._host.fresh_info(ref)
        self._check(info, changes)
        before = limits_of(info, self._facts())
        change = Change(
            seen.name, info, before, before.with_changes(changes), self._facts().shares_per_weight, self._host_cpus()
        )
        calls = list(limit_calls(change))
        live, persistent = self._host.with_domain(
            ref, "look at the state", lambda domain: (bool(domain.isActive()), bool(domain.isPersistent()))
        )
        try:
            self._run_all(ref, calls, flags_for(live, persistent), recorder)
        finally:
            self._host.mark_dirty(ref.id)
        if live and change.wanted.memory_bytes != before.memory_bytes:
            self._await_balloon(ref, change.wanted.memory_bytes or info.memory_max_bytes)
        return self.limits(ref)

    def _run_all(self, ref: GuestRef, calls: Sequence[LimitCall], flags: Sequence[int], recorder: Recorder) -> None:
        # One flag at a time: the Python binding reads the old parameters with the same flags, and libvirt
        # refuses to read of two at once. The live guest first: what its host cannot do is not written down.
        done: list[tuple[LimitCall, int]] = []
        for call in calls:
            for flag in flags:
                try:
                    self._journal.run(ref.id, recorder, self._step(ref, call, flag))
                except InnkeeperError as error:
                    if call.tap:
                        self._tidy_tap(call, error)
                    for earlier, its_flag in reversed(done):
                        self._take_back(ref, earlier, its_flag, recorder, error)
                    raise
                done.append((call, flag))

    def _step(self, ref: GuestRef, call: LimitCall, flag: int, *, back: bool = False) -> Call:
        work = call.undo if back else call.run
        place = "in its definition" if flag == api.AFFECT_CONFIG else "now"
        text = f"take back, {place}: {call.text}" if back else f"{call.text}, {place}"
        return Call(
            text,
            "" if back else _virsh(call, "--config" if flag == api.AFFECT_CONFIG else "--live"),
            lambda: self._host.command(text, lambda c: work(c.lookupByUUIDString(ref.id), flag)),
            details=call.details,
        )

    def _take_back(self, ref: GuestRef, call: LimitCall, flag: int, recorder: Recorder, error: InnkeeperError) -> None:
        try:
            self._journal.run(ref.id, recorder, self._step(ref, call, flag, back=True))
        except InnkeeperError as second:
            error.add_note(f"and could not take back: {call.text}: {second}")

    def _tidy_tap(self, call: LimitCall, error: InnkeeperError) -> None:
        self._no_bandwidth = "libvirt failed to do it on this host before: " + error.message.partition(": ")[2]
        if not error.hint:
            error.hint = "libvirt needs the kernel's htb, sfq and ingress queueing (module sch_sfq)"
        try:
            clear_queueing(call.tap)
        except InnkeeperError as second:
            error.add_note(f"{call.tap} is left with a half-built queue: {second}")

    def _await_balloon(self, ref: GuestRef, target: int) -> None:
        def is_there() -> bool:
            text = self._host.with_domain(ref, "read the XML", lambda domain: domain.XMLDesc(0))
            return abs(read_domain(text).memory_bytes - target) < 1024**2

        self._host.wait_for_news(is_there, time.monotonic() + BALLOON_WAIT_S)

    def _host_cpus(self) -> int:
        try:
            return self._host.command("count the host's CPUs", lambda connection: connection.getCPUMap(0)[0])
        except Unsupported:
            return host_cpu_count()

    def _check(self, info: DomainInfo, changes: LimitChanges) -> None:
        for name, reason in self.reasons(info).items():
            if name in changes and reason and changes[name]:
                raise Unsupported(f"cannot set {name} of {info.name}: {reason}")
        unknown = sorted(set(changes) - set(_FIELDS))
        if unknown:
            raise UsageError(f"there is no limit {unknown[0]!r}")
        disks = {disk.target for disk in info.disks}
        for entry in changes.get("io_devices") or ():
            if entry.device not in disks:
                raise UsageError(f"{info.name} has no disk {entry.device!r}", hint=f"it has {', '.join(sorted(disks))}")

    def fields(self, guest: Guest) -> Mapping[str, str]:
        """Map each field to "" or to why it cannot be set."""
        info = self._host.info(guest.ref.id)
        if info is None:
            return dict.fromkeys(_FIELDS, "its definition could not be read yet")
        return self.reasons(info)

    def reasons(self, info: DomainInfo) -> dict[str, str]:
        """As fields(), for a definition."""
        found = dict.fromkeys(_FIELDS, "")
        found["memory_high_bytes"] = "a virtual machine has one memory size, its balloon's"
        found["swap_bytes"] = "a virtual machine swaps inside itself"
        found["pids"] = "the processes of a virtual machine are its own kernel's"
        found["memory_bytes"] = "" if info.has_balloon or info.kind == "test" else "it has no memory balloon"
        found |= dict.fromkeys(_CPU, self._why_no_cpu(info))
        found |= dict.fromkeys(_IO, _why_no_io(info))
        found |= dict.fromkeys(_NET, self._why_no_network(info))
        found |= dict.fromkeys(_EMULATED, "libvirt delays and loses no packets")
        return found

    def _why_no_cpu(self, info: DomainInfo) -> str:
        if info.kind == "test":
            return "libvirt's test driver has none"
        if self._host.uri.endswith("/session"):
            return "libvirt limits no CPU in a user's session (no cgroups there)"
        return ""

    def _why_no_network(self, info: DomainInfo) -> str:
        if not info.nics:
            return "it has no network card"
        if info.kind == "test":
            return "libvirt's test driver has none"
        if all(nic.kind == "user" for nic in info.nics):
            return "its network is user-mode: there is no link on the host to limit"
        return self._no_bandwidth

    def warnings(self, guest: Guest, changes: LimitChanges, last: Sample | None) -> list[str]:
        """Say what would hurt."""
        found = []
        memory, cpus = changes.get("memory_bytes"), changes.get("cpus")
        if memory and guest.memory_total_bytes and memory < guest.memory_total_bytes // 4:
            found.append(
                f"{memory // 1024**2} MiB is less than a quarter of what it was built with: "
                "its own kernel may kill processes"
            )
        if memory and guest.state.is_live:
            found.append("the guest gives memory back only if it runs a balloon driver")
        if cpus and guest.cpu_count and cpus > guest.cpu_count:
            found.append(f"{cpus:g} CPUs are more than its {guest.cpu_count} vCPUs can use")
        if cpus and cpus < 0.05:
            found.append("below 0.05 CPUs a guest answers so slowly that its watchdogs may fire")
        if any(changes.get(name) is not None and changes[name] < 1024 for name in _NET):
            found.append("libvirt limits networks in steps of 1 KiB/s")
        return found


def _virsh(call: LimitCall, flag: str) -> str:
    return call.virsh.replace("FLAGS", flag) if "FLAGS" in call.virsh else f"{call.virsh} {flag}"


def _why_no_io(info: DomainInfo) -> str:
    if info.kind == "test":
        return "libvirt's test driver has none"
    return "" if any(disk.device in ("disk", "lun") for disk in info.disks) else "it has no disk"
