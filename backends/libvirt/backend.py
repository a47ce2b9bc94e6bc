"""The libvirt backend: every virtual machine of one libvirt URI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from backends.base import CheckResult, Listener
from backends.benchmark import BenchGuest
from backends.errors import Unsupported, WrongState
from backends.kernel.procfs import guest_processes
from backends.libvirt.ability import why_not
from backends.libvirt.check import check
from backends.libvirt.console import ConsoleSession
from backends.libvirt.convert import BACKEND, ref_of
from backends.libvirt.fleet_reader import FleetReader
from backends.libvirt.host import LibvirtHost, known
from backends.libvirt.inspection import inspect
from backends.libvirt.journal import Journal
from backends.libvirt.lifecycle import Lifecycles
from backends.libvirt.limiting import Limiter
from backends.libvirt.logs import read_log
from backends.libvirt.snapshots import Snapshots
from backends.metrics import Sample
from backends.model import Guest, GuestKind, GuestProcess, GuestRef, LimitChanges, Limits, LogLine, Snapshot
from backends.registry import BackendConfig
from backends.sessions import ExecSession
from backends.trace import Recorder, StepRecord

DEFAULT_URI = "qemu:///system"


def make(config: BackendConfig) -> LibvirtBackend:
    """Return the backend for config.options["uri"], not opened."""
    return LibvirtBackend(config)


class LibvirtBackend:
    """Virtual machines of a libvirt daemon: a Backend with most capabilities."""

    name = BACKEND
    kinds = frozenset({GuestKind.VM})
    is_simulated = False
    max_parallel = 4

    def __init__(self, config: BackendConfig) -> None:
        self.uri = config.options.get("uri") or DEFAULT_URI
        self.title = f"libvirt {self.uri}"
        self._config = config
        self._host = LibvirtHost(self.uri)
        self._journal = Journal(config.state_dir / "libvirt")
        self._reader = FleetReader(self._host)
        self._limiter = Limiter(self._host, self._journal, lambda: self._reader.facts)
        self._snapshots = Snapshots(self._host, self._journal)
        self._life = Lifecycles(self._host, self._journal)

    # ── Backend ─────────────────────────────────────────────────────────────────────────────────────

    def open(self, listener: Listener | None = None) -> None:
        """Connect. Raises BackendUnavailable with what to install or start."""
        self._host.open(listener)

    def close(self) -> None:
        """Let go of connections and files."""
        self._host.close()
        self._reader.close()

    def guests(self) -> list[Guest]:
        """Return all domains, defined and transient."""
        return self._reader.guests()

    def sample(self) -> Mapping[GuestRef, Sample]:
        """Read the counters of all live guests."""
        return self._reader.sample()

    def inspect(self, ref: GuestRef) -> Mapping[str, Any]:
        """Return state, limits, cgroups, QEMU's command line and the domain XML."""
        return inspect(self._host, self._reader, ref)

    def why_not(self, verb: str, guest: Guest) -> str | None:
        """Say why a verb is impossible for this guest."""
        return why_not(verb, self._host.info(guest.ref.id), is_local=self._reader.is_local)

    def check(self) -> Sequence[CheckResult]:
        """Return the lines of `inn doctor`."""
        return check(self.uri, self._config.run_dir)

    def trace(self, ref: GuestRef) -> Sequence[StepRecord]:
        """Return the calls made for a guest."""
        return self._journal.records(ref.id)

    # ── Lifecycle, Pausing, Waiting, Renaming, Removing ─────────────────────────────────────────────

    def start(self, ref: GuestRef, recorder: Recorder) -> None:
        """Start it."""
        self._life.start(ref, recorder)

    def stop(self, ref: GuestRef, recorder: Recorder, *, timeout_s: float | None = None) -> None:
        """Press its power button and wait; only with an explicit timeout force it off after that."""
        self._life.stop(ref, recorder, timeout_s)

    def kill(self, ref: GuestRef, recorder: Recorder, *, signal: int = 9) -> None:
        """Force it off."""
        self._life.kill(ref, recorder, signal)

    def restart(self, ref: GuestRef, recorder: Recorder, *, timeout_s: float | None = None) -> None:
        """Reboot it."""
        self._life.restart(ref, recorder, timeout_s)

    def pause(self, ref: GuestRef, recorder: Recorder) -> None:
        """Stop its vCPUs."""
        self._life.pause(ref, recorder)

    def resume(self, ref: GuestRef, recorder: Recorder) -> None:
        """Let its vCPUs go on."""
        self._life.resume(ref, recorder)

    def wait(self, ref: GuestRef, *, timeout_s: float | None = None) -> int | None:
        """Wait until it is off; a VM has no exit code."""
        self._life.wait(ref, timeout_s)
        return None

    def rename(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Rename it while it is off."""
        self._life.rename(ref, name, recorder)

    def remove(self, ref: GuestRef, recorder: Recorder, *, force: bool = False) -> None:
        """Remove its definition; disk files are never deleted."""
        self._life.remove(ref, recorder, force)

    # ── Limiting ────────────────────────────────────────────────────────────────────────────────────

    def limits(self, ref: GuestRef) -> Limits:
        """Return the limits in force, read from libvirt now."""
        return self._limiter.limits(ref)

    def set_limits(self, ref: GuestRef, changes: LimitChanges, recorder: Recorder) -> Limits:
        """Change them in the live guest and in its definition, all or nothing."""
        return self._limiter.set_limits(ref, changes, recorder)

    def limit_fields(self, guest: Guest) -> Mapping[str, str]:
        """Say which can be set for this guest."""
        return self._limiter.fields(guest)

    def limit_warnings(self, guest: Guest, changes: LimitChanges, last: Sample | None) -> Sequence[str]:
        """Say what would hurt."""
        return self._limiter.warnings(guest, changes, last)

    # ── Snapshotting ────────────────────────────────────────────────────────────────────────────────

    def snapshots(self, ref: GuestRef) -> Sequence[Snapshot]:
        """Return all snapshots, parents before children."""
        return self._snapshots.list(ref)

    def snapshot_create(self, ref: GuestRef, name: str, recorder: Recorder) -> Snapshot:
        """Save the guest inside its qcow2 disk."""
        return self._snapshots.create(ref, name, recorder)

    def snapshot_restore(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Take it back, memory and power state too."""
        self._snapshots.restore(ref, name, recorder)

    def snapshot_remove(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Remove one; its children become its parent's."""
        self._snapshots.remove(ref, name, recorder)

    # ── Logging, Processes, Consoling ───────────────────────────────────────────────────────────────

    def logs(
        self, ref: GuestRef, *, follow: bool = False, tail: int | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[LogLine]:
        """Yield what the guest printed on its serial console, from the file that its definition names."""
        seen, info = known(self._host, ref), self._host.info(ref.id) or self._host.fresh_info(ref)
        if not info.console_log:
            raise Unsupported(
                f"{seen.name} keeps no log: its serial console is not written to a file",
                hint="add <log file='…' append='on'/> to <serial> in its definition",
            )
        if not self._reader.is_local:
            raise Unsupported(f"the console log of {seen.name} is on another host")
        return read_log(info.console_log, follow=follow, tail=tail, stop=stop, is_live=lambda: self._is_live(ref))

    def _is_live(self, ref: GuestRef) -> bool:
        return any(seen.uuid == ref.id and seen.is_live for seen in self._host.seen())

    def processes(self, ref: GuestRef) -> Sequence[GuestProcess]:
        """Return its QEMU, as this host sees it: what runs inside only the guest's kernel knows."""
        seen = known(self._host, ref)
        reader = self._reader.reader_of(seen) if seen.is_live else None
        if reader is None:
            raise WrongState(f"{seen.name} has no process on this host now")
        return [replace(process, guest_pid=None) for process in guest_processes([reader.pid])]

    def console(self, ref: GuestRef) -> ExecSession:
        """Open its serial console; Busy while somebody else has it open."""
        seen = known(self._host, ref)
        return ConsoleSession(self.uri, ref.id, seen.name)

    # ── Demonstrating: works without open(), since it starts libvirt's daemons where none run ───────────

    def demo_create(self, say: Callable[[str], None]) -> Sequence[GuestRef]:
        """Make and start the demo VM, and libvirt's daemons where none run."""
        from backends.libvirt.demo import make_demo_vm

        self._check_demo()
        vm = make_demo_vm(self.uri, self._config.state_dir, say, run_dir=self._config.run_dir)
        return [ref_of(vm.uuid)]

    def demo_remove(self, say: Callable[[str], None]) -> None:
        """Remove it, its files, and the daemons started for it."""
        from backends.libvirt.demo import remove_demo_vm

        self._check_demo()
        remove_demo_vm(self.uri, self._config.state_dir, say, run_dir=self._config.run_dir)

    # ── Benchmarking: without open() too ────────────────────────────────────────────────────────────

    def bench_guest(self, programs: Sequence[str], say: Callable[[str], None]) -> AbstractContextManager[BenchGuest]:
        """Make a VM to measure."""
        from backends.libvirt.bench_vm import bench_vm

        self._check_demo()
        return bench_vm(self.uri, self._config.state_dir, self._config.run_dir, programs, say)

    def _check_demo(self) -> None:
        if not self._reader.is_local:
            raise Unsupported(f"the demo VM runs on this host only, and {self.uri} is another place")
