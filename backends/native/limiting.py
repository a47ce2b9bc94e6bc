"""Limits of containers: what can be set, what would hurt, and all or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from backends.errors import InnkeeperError, Unsupported, UsageError
from backends.metrics import Sample
from backends.model import LimitChanges, Limits
from backends.native import shaping
from backends.trace import Recorder, Step


def fields(reasons: Mapping[str, str]) -> Mapping[str, str]:
    """Map each field of Limits to "" or why it cannot be set for containers on this host."""
    names = Limits.__dataclass_fields__
    return {name: reasons.get(name, "") for name in names}


def check_names(changes: LimitChanges, reasons: Mapping[str, str]) -> None:
    """Raise Unsupported or UsageError for a field that cannot be set; lifting is always allowed."""
    why = fields(reasons)
    for name, value in changes.items():
        if name not in why:
            raise UsageError(f"there is no limit {name}")
        if value not in (None, ()) and why[name]:
            raise Unsupported(f"cannot limit {name}: {why[name]}")


def apply(steps: Sequence[Step], recorder: Recorder) -> None:
    """Run the steps; if one fails, take back those before it and raise what it said."""
    done: list[Step] = []
    for step in steps:
        try:
            recorder.run(step)
        except (InnkeeperError, OSError) as error:
            for earlier in reversed(done):
                with suppress(InnkeeperError, OSError):
                    earlier.undo()
            if isinstance(error, InnkeeperError):
                raise
            raise InnkeeperError(f"cannot {step.describe()}: {error.strerror or error}") from error
        done.append(step)


def in_force(kernel: Limits, wanted: Limits) -> Limits:
    """Return the kernel's limits, with what a cgroup does not know taken from the spec."""
    return replace(kernel, **{name: getattr(wanted, name) for name in shaping.FIELDS})


def warnings(name: str, changes: LimitChanges, last: Sample | None) -> Sequence[str]:
    """Return one sentence for each change that would hurt now."""
    found = []
    memory = changes.get("memory_bytes")
    used = last.memory_bytes if last is not None else None
    if memory is not None and used is not None and memory < used:
        found.append(
            f"{name} uses {used / 2**20:.1f} MiB, more than {memory / 2**20:.1f} MiB: what cannot be reclaimed "
            "makes the OOM killer act"
        )
    pids = changes.get("pids")
    if pids is not None and last is not None and last.pids is not None and pids < last.pids:
        found.append(f"{name} has {last.pids} tasks, more than {pids}: they go on, but no new ones start")
    return found
