"""What the parts of `process.scheduler` must be to one another; where runc has no wording, it is crun's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.oci.schema import Refused

_LEAST_RUNTIME_NS, _MOST_RUNTIME_NS = 1024, 2**63 - 1
"""The kernel counts with a precision of 1024 ns, and keeps the top bit for itself (sched(7), "SCHED_DEADLINE")."""


def check(scheduler: Mapping[str, Any]) -> None:
    """Raise Refused for what the kernel would answer with a bare EINVAL, or pass over."""
    policy, nice = scheduler["policy"], scheduler.get("nice", 0)
    if policy in ("SCHED_OTHER", "SCHED_BATCH") and not -20 <= nice <= 19:
        raise Refused(f"invalid scheduler.nice: {nice} when scheduler.policy is {policy}", "scheduler.nice")
    if scheduler.get("priority") and policy not in ("SCHED_FIFO", "SCHED_RR"):
        text = "scheduler.priority can only be specified for SchedFIFO or SchedRR policy"
        raise Refused(text, "scheduler.priority")
    if policy == "SCHED_DEADLINE":
        _deadline(scheduler)
        return
    for name in ("runtime", "deadline", "period"):
        if scheduler.get(name):
            text = "scheduler runtime/deadline/period can only be specified for SchedDeadline policy"
            raise Refused(text, f"scheduler.{name}")


def _deadline(scheduler: Mapping[str, Any]) -> None:
    for name in ("runtime", "deadline"):
        if scheduler.get(name) is None:
            raise _refused(name, f"requires `{name}`")
        if scheduler[name] == 0:
            raise _refused(name, f"{name} must be greater than 0")
    runtime, deadline = scheduler["runtime"], scheduler["deadline"]
    period = scheduler.get("period") or deadline  # as the kernel takes it
    if not _LEAST_RUNTIME_NS <= runtime <= _MOST_RUNTIME_NS:
        raise _refused("runtime", f"runtime {runtime} must be between {_LEAST_RUNTIME_NS} and {_MOST_RUNTIME_NS}")
    if runtime > deadline:
        raise _refused("runtime", f"runtime {runtime} must be <= deadline {deadline}")
    if deadline > period:
        raise _refused("deadline", f"deadline {deadline} must be <= period {period}")


def _refused(name: str, text: str) -> Refused:
    return Refused(f"sched_setattr: `SCHED_DEADLINE` {text}", f"scheduler.{name}")
