"""Limits of simulated guests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from backends.errors import UsageError
from backends.metrics import Sample
from backends.model import Guest, GuestKind, GuestRef, LimitChanges, Limits
from backends.simulated.core import SimulatedCore
from backends.simulated.machine import Machine
from backends.simulated.world import NOT_FOR_VMS, checked_limits
from backends.trace import Recorder


class LimitVerbs(SimulatedCore):
    """Limiting."""

    def limits(self, ref: GuestRef) -> Limits:
        """Return the limits in force."""
        with self._call("limits"):
            return self._world.get(ref).limits

    def set_limits(self, ref: GuestRef, changes: LimitChanges, recorder: Recorder) -> Limits:
        """Change limits; all or none."""
        with self._verb("set_limits", ref) as machine:
            unknown = set(changes) - set(Limits.__dataclass_fields__)
            if unknown:
                raise UsageError(f"there is no limit {sorted(unknown)[0]!r}")
            wanted = checked_limits(machine.limits.with_changes(changes), machine.kind)
            text = f"set {', '.join(f'{name}={value}' for name, value in changes.items())} on {machine.name}"
            self._do(machine, recorder, "limit", text, partial(_set_limits, machine, wanted))
            return machine.limits

    def limit_fields(self, guest: Guest) -> Mapping[str, str]:
        """Say which limits a guest can have."""
        hindrances = NOT_FOR_VMS if guest.kind is GuestKind.VM else {}
        return {name: hindrances.get(name, "") for name in Limits.__dataclass_fields__}

    def limit_warnings(self, guest: Guest, changes: LimitChanges, last: Sample | None) -> Sequence[str]:
        """Warn of a memory limit below present use."""
        wanted = changes.get("memory_bytes")
        used = last.memory_bytes if last is not None else None
        if wanted is None or used is None or wanted >= used:
            return ()
        return (f"it uses {used // 1024**2} MiB now, more than the new limit: the kernel will kill a process of it",)


def _set_limits(machine: Machine, limits: Limits) -> None:
    machine.limits = limits
