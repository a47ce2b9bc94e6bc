"""Control groups: which mode, which controllers, and which limits they can hold."""

from __future__ import annotations

from collections.abc import Sequence

from backends.base import CheckResult
from backends.errors import InnkeeperError

_AREA = "cgroup"

_WANTED = {
    "cpu": "CPU quota and weight",
    "cpuset": "choice of CPUs",
    "memory": "memory limit and no figure of memory",
    "pids": "limit on processes",
    "io": "disk limit and no disk figure",
}

_MODES = {
    "v2": "v2, all controllers in one tree",
    "hybrid": "hybrid: v1 for limits, v2 beside it",
    "v1": "v1 alone",
}


def check_cgroup() -> Sequence[CheckResult]:
    """Say how control groups are set up."""
    from backends.kernel.cgroup import detect

    try:
        host = detect()
    except InnkeeperError as error:
        return [CheckResult(_AREA, "mode", False, "none", error.message, error.hint)]
    return [_mode(host.mode), *(_controller(name, host.controllers) for name in _WANTED)]


def _mode(mode: str) -> CheckResult:
    if mode == "v2":
        return CheckResult(_AREA, "mode", True, _MODES[mode])
    lost = "memory.high and limits on buffered writes" + ("" if mode == "hybrid" else ", pressure and instant kill")
    mend = "Boot with systemd.unified_cgroup_hierarchy=1"
    return CheckResult(_AREA, "mode", True, _MODES[mode], f"Works; only v2 has {lost}", mend)


def _controller(name: str, present: frozenset[str]) -> CheckResult:
    names = {name, "blkio"} if name == "io" else {name}
    here = sorted(names & present)
    if here:
        return CheckResult(_AREA, f"{name} controller", True, " and ".join(here))
    why = f"Without it there is no {_WANTED[name]}"
    return CheckResult(_AREA, f"{name} controller", False, "not there", why, f"Boot without cgroup_disable={name}")
