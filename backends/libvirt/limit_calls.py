"""The libvirt calls that turn a guest's limits into the wanted ones, as data."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from backends.errors import UsageError
from backends.libvirt import api
from backends.libvirt.api import Domain
from backends.libvirt.domain_xml import Disk, DomainInfo, Nic
from backends.model import DeviceIo, Limits

PERIOD_US = 100_000
LONG_PERIOD_US = 1_000_000
MIN_QUOTA_US = 1_000
"""The kernel takes no smaller quota."""

IO_FIELDS = {
    "read_bytes_per_s": "read_bytes_sec",
    "write_bytes_per_s": "write_bytes_sec",
    "read_ops_per_s": "read_iops_sec",
    "write_ops_per_s": "write_iops_sec",
}


@dataclass(frozen=True, slots=True)
class LimitCall:
    """One call, and the one that takes it back."""

    text: str
    virsh: str
    """The virsh line; FLAGS in it, or else its end, is where --live or --config goes."""

    run: Callable[[Domain, int], object]
    undo: Callable[[Domain, int], object]
    details: Mapping[str, Any]
    tap: str = ""
    """Link that is left half-built when the call fails."""


@dataclass(frozen=True, slots=True)
class Change:
    """From which limits to which, of which guest."""

    name: str
    info: DomainInfo
    before: Limits
    wanted: Limits
    shares_per_weight: float
    host_cpus: int


def limit_calls(change: Change) -> Iterator[LimitCall]:
    """Yield the calls for the fields that differ; raises UsageError for values that no host takes."""
    before, wanted = change.before, change.wanted
    if (wanted.cpus, wanted.cpu_weight) != (before.cpus, before.cpu_weight):
        yield _scheduler(change)
    if wanted.cpuset != before.cpuset:
        yield _pinning(change)
    if wanted.memory_bytes != before.memory_bytes:
        yield _balloon(change)
    for disk in change.info.disks:
        if disk.device in ("disk", "lun") and (io := io_of(wanted, disk.target)) != io_of_disk(disk):
            yield _iotune(change, disk, io)
    for nic in change.info.nics:
        rates = (wanted.net_rx_bytes_per_s, wanted.net_tx_bytes_per_s)
        if rates != (nic.rx_bytes_per_s, nic.tx_bytes_per_s) and rates != (
            before.net_rx_bytes_per_s, before.net_tx_bytes_per_s
        ):  # fmt: skip
            yield _bandwidth(change, nic)


# ── CPU ─────────────────────────────────────────────────────────────────────────────────────────────────


def _scheduler(change: Change) -> LimitCall:
    wanted = scheduler_params(change.wanted, change)
    before = scheduler_params(change.before, change)
    sent = {key: value for key, value in wanted.items() if before[key] != value}
    if "global_quota" in sent:
        sent["global_period"] = wanted["global_period"]
        if change.info.quota_us is not None:
            sent["vcpu_quota"] = -1  # the tighter of two quotas would win
    back = {key: before[key] for key in sent if key in before}
    if "vcpu_quota" in sent:
        back |= {"vcpu_quota": change.info.quota_us or -1, "global_quota": change.info.global_quota_us or -1}
    words = " ".join(f"--set {key}={value}" for key, value in sent.items())
    return LimitCall(
        f"set the CPU limits of {change.name}: " + ", ".join(f"{key}={value}" for key, value in sent.items()),
        f"virsh schedinfo {shlex.quote(change.name)} {words}",
        lambda domain, flags: domain.setSchedulerParametersFlags(sent, flags),
        lambda domain, flags: domain.setSchedulerParametersFlags(back, flags),
        {"parameters": sent},
    )


def scheduler_params(limits: Limits, change: Change) -> dict[str, int]:
    """Return libvirt's scheduler parameters for the limits.

    The quota is the guest's as a whole (global_quota), as a container's is, and not vcpu_quota, which
    libvirt applies to each vCPU: there a guest of two vCPUs with one busy program gets half of what was said.
    """
    weight = 100 if limits.cpu_weight is None else limits.cpu_weight
    shares = max(2, round(weight * change.shares_per_weight))
    if limits.cpus is None:
        return {"global_period": PERIOD_US, "global_quota": -1, "cpu_shares": shares}
    period = PERIOD_US if limits.cpus * PERIOD_US >= MIN_QUOTA_US else LONG_PERIOD_US
    quota = round(limits.cpus * period)
    if quota < MIN_QUOTA_US:
        raise UsageError(f"cannot limit {change.name} to {limits.cpus:g} CPUs: the kernel takes 0.001 and more")
    return {"global_period": period, "global_quota": quota, "cpu_shares": shares}


def _pinning(change: Change) -> LimitCall:
    wanted = cpu_map(change.wanted.cpuset, change.host_cpus)
    before = cpu_map(change.before.cpuset, change.host_cpus)
    shown = change.wanted.cpuset or f"0-{change.host_cpus - 1}"

    def pin(cpus: tuple[bool, ...]) -> Callable[[Domain, int], object]:
        return lambda domain, flags: [domain.pinVcpuFlags(n, cpus, flags) for n in range(change.info.vcpus)]

    return LimitCall(
        f"pin the {change.info.vcpus} vCPUs of {change.name} to CPUs {shown}",
        f"for n in $(seq 0 {change.info.vcpus - 1}); do "
        f"virsh vcpupin {shlex.quote(change.name)} --vcpu $n --cpulist {shown} FLAGS; done",
        pin(wanted),
        pin(before),
        {"cpus": shown, "vcpus": change.info.vcpus},
    )


def cpu_map(cpuset: str | None, host_cpus: int) -> tuple[bool, ...]:
    """Return one flag a host CPU for a kernel list ("0-1,3"); all for None. Raises UsageError."""
    if cpuset is None:
        return (True,) * host_cpus
    chosen: set[int] = set()
    try:
        for part in cpuset.split(","):
            first, _, last = part.strip().partition("-")
            chosen.update(range(int(first), int(last or first) + 1))
    except ValueError as error:
        raise UsageError(f"{cpuset!r} is no list of CPUs", hint="such as 0-1,3") from error
    if not chosen or max(chosen) >= host_cpus or min(chosen) < 0:
        raise UsageError(f"cannot use CPUs {cpuset}: this host has 0-{host_cpus - 1}")
    return tuple(n in chosen for n in range(host_cpus))


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────


def _balloon(change: Change) -> LimitCall:
    most = change.info.memory_max_bytes
    wanted = most if change.wanted.memory_bytes is None else change.wanted.memory_bytes
    before = most if change.before.memory_bytes is None else change.before.memory_bytes
    if wanted > most:
        raise UsageError(
            f"cannot give {change.name} {wanted // 1024**2} MiB: it was built with {most // 1024**2} MiB",
            hint="raise <memory> in its definition while it is off",
        )
    if wanted < 1024**2:
        raise UsageError(f"cannot run {change.name} in less than 1 MiB")
    kib = wanted // 1024
    return LimitCall(
        f"set the memory of {change.name} to {kib} KiB (balloon)",
        f"virsh setmem {shlex.quote(change.name)} {kib}KiB",
        lambda domain, flags: domain.setMemoryFlags(kib, flags),
        lambda domain, flags: domain.setMemoryFlags(before // 1024, flags),
        {"memory_kib": kib},
    )


# ── disk ────────────────────────────────────────────────────────────────────────────────────────────────


def io_of(limits: Limits, target: str) -> DeviceIo:
    """Return what the limits say of one disk: its own entry, else the fields for all."""
    for entry in limits.io_devices:
        if entry.device == target:
            return entry
    return DeviceIo(
        target,
        limits.io_read_bytes_per_s,
        limits.io_write_bytes_per_s,
        limits.io_read_ops_per_s,
        limits.io_write_ops_per_s,
    )


def io_of_disk(disk: Disk) -> DeviceIo:
    """Return the limits in force for one disk."""
    return replace(disk.io, device=disk.target)


def iotune_params(io: DeviceIo) -> dict[str, int]:
    """Return the full set for setBlockIoTune: what is left out of it libvirt refuses to lift."""
    params = {f"total_{what}_sec": 0 for what in ("bytes", "iops")}
    params |= {name: getattr(io, field) or 0 for field, name in IO_FIELDS.items()}
    params |= {f"{way}_{what}_sec_max": 0 for way in ("total", "read", "write") for what in ("bytes", "iops")}
    return params


def _iotune(change: Change, disk: Disk, io: DeviceIo) -> LimitCall:
    wanted, before = iotune_params(io), iotune_params(disk.io)
    words = " ".join(f"--{name.replace('_', '-')} {wanted[name]}" for name in IO_FIELDS.values())
    return LimitCall(
        f"limit disk {disk.target} of {change.name}: "
        + ", ".join(f"{name}={wanted[name] or 'none'}" for name in IO_FIELDS.values()),
        f"virsh blkdeviotune {shlex.quote(change.name)} {disk.target} {words}",
        lambda domain, flags: domain.setBlockIoTune(disk.target, wanted, flags),
        lambda domain, flags: domain.setBlockIoTune(disk.target, before, flags),
        {"disk": disk.target, "parameters": wanted},
    )


# ── network ─────────────────────────────────────────────────────────────────────────────────────────────


def bandwidth_params(rx_bytes_per_s: int | None, tx_bytes_per_s: int | None) -> dict[str, int]:
    """Return libvirt's parameters, KiB/s; 0 lifts. "inbound" is what the guest receives."""

    def kib(value: int | None) -> int:
        return 0 if value is None else max(1, round(value / 1024))

    return {
        "inbound.average": kib(rx_bytes_per_s), "inbound.peak": 0, "inbound.burst": 0,
        "outbound.average": kib(tx_bytes_per_s), "outbound.peak": 0, "outbound.burst": 0,
    }  # fmt: skip


def _bandwidth(change: Change, nic: Nic) -> LimitCall:
    wanted = bandwidth_params(change.wanted.net_rx_bytes_per_s, change.wanted.net_tx_bytes_per_s)
    before = bandwidth_params(nic.rx_bytes_per_s, nic.tx_bytes_per_s)
    device = nic.target or nic.mac
    # The definition has no tap names: a card is named by its MAC there.
    return LimitCall(
        f"limit the network card {device} of {change.name}: receive {wanted['inbound.average'] or 'any'} KiB/s, "
        f"send {wanted['outbound.average'] or 'any'} KiB/s",
        f"virsh domiftune {shlex.quote(change.name)} {nic.mac} --inbound {wanted['inbound.average']} "
        f"--outbound {wanted['outbound.average']}",
        lambda domain, flags: domain.setInterfaceParameters(nic.mac, wanted, flags),
        lambda domain, flags: domain.setInterfaceParameters(nic.mac, before, flags),
        {"interface": nic.mac, "tap": nic.target, "parameters": wanted},
        tap=nic.target,
    )


def host_cpu_count() -> int:
    """Return the CPUs of this host, where libvirt cannot be asked."""
    return os.cpu_count() or 1


def flags_for(is_live: bool, is_persistent: bool) -> list[int]:
    """Return where a change goes: to the live guest, its definition, or both in turn."""
    return [*([api.AFFECT_LIVE] if is_live else []), *([api.AFFECT_CONFIG] if is_persistent else [])]
