"""The libvirt backend: every virtual machine of one libvirt URI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backends.base import CheckResult, Listener
from backends.libvirt.ability import why_not
from backends.libvirt.check import check
from backends.libvirt.convert import BACKEND
from backends.libvirt.fleet_reader import FleetReader
from backends.libvirt.host import LibvirtHost
from backends.libvirt.inspection import inspect
from backends.libvirt.journal import Journal
from backends.libvirt.lifecycle import Lifecycles
from backends.metrics import Sample
from backends.model import Guest, GuestKind, GuestRef
from backends.registry import BackendConfig
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
        return why_not(verb, self._host.info(guest.ref.id))

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
