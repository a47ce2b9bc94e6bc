"""Control groups for tests: made below one of their own, of which nothing is left afterwards."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backends.errors import Unsupported
from backends.kernel.cgroup import Cgroup, CgroupHost, detect
from backends.kernel.cgroup_entrance import Entrance
from backends.oci import cgroups, resources
from backends.trace import Recorder

MIB = 1 << 20


def views() -> list[str]:
    """Return the ways in which this host's cgroups can be seen; hybrid ones also as v1 alone."""
    try:
        return ["as mounted", "v1 alone"] if detect().mode == "hybrid" else ["as mounted"]
    except Unsupported:
        return ["as mounted"]


def host_of(view: str) -> CgroupHost:
    """Return the host seen in one of these ways, or as "v1" or "v2" alone."""
    found = detect()
    if view == "as mounted":
        return found
    version = 2 if view == "v2" else 1
    return CgroupHost(tuple(h for h in found.hierarchies if h.version == version))


def below_another(host: CgroupHost) -> Iterator[Cgroup]:
    """Yield a group that is not made yet, below one that is; a fixture's body."""
    above = host.group(f"innkeeper-test-{secrets.token_hex(6)}")
    switched = switched_on(host)
    try:
        Recorder("test").run_all(above.below("other").create_steps())
        yield above.below("guest")
    finally:
        above.kill()
        above.remove()
        for name in switched_on(host) - switched:
            assert host.unified is not None
            Path(host.unified.mount, "cgroup.subtree_control").write_text(f"-{name}")
    assert not above.exists()


def switched_on(host: CgroupHost) -> set[str]:
    """Return what the top of a hybrid host hands down, which the tests leave as it was."""
    if host.mode != "hybrid" or host.unified is None:
        return set()
    return set(Path(host.unified.mount, "cgroup.subtree_control").read_text().split())


def make(group: Cgroup, wanted: dict[str, Any] | None = None) -> Cgroup:
    """Make the group with these resources, as a container's."""
    steps = [*cgroups.create_steps(group, wanted or {}), *resources.steps(group, wanted or {})]
    Recorder("test").run_all(steps)
    return group


def put(group: Cgroup, wanted: dict[str, Any]) -> None:
    """Put resources in force in a group that is there."""
    Recorder("test").run_all(resources.steps(group, wanted))


def read(group: Cgroup, controller: str, v1_file: str, v2_file: str | None = None) -> str:
    """Return what a controller's file says."""
    seat = group.seat(controller)
    assert seat is not None
    return Path(seat[1], v1_file if seat[0] == 1 else v2_file or v1_file).read_text().strip()


def is_v2(group: Cgroup, controller: str = "memory") -> bool:
    """True if a controller is in the v2 tree."""
    seat = group.seat(controller)
    return seat is not None and seat[0] == 2


def bandwidth(group: Cgroup) -> tuple[str, str]:
    """Return quota and period, in v1's words."""
    if is_v2(group, "cpu"):
        quota, period = read(group, "cpu", "cpu.max").split()
        return quota.replace("max", "-1"), period
    return read(group, "cpu", "cpu.cfs_quota_us"), read(group, "cpu", "cpu.cfs_period_us")


def run_in(group: Cgroup, program: str, *arguments: str) -> subprocess.Popen[str]:
    """Start Python in the group, before its first instruction."""
    entrance = Entrance(group)
    try:
        command = (sys.executable, "-I", "-S", "-c", program, *arguments)
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=entrance.enter
        )
    finally:
        entrance.close()
