"""Putting a process into a live container's control group, or one below it (`exec --cgroup`)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from backends.kernel.cgroup import Cgroup
from backends.kernel.cgroup_entrance import Entrance
from backends.kernel.cgroup_file import read_text
from backends.oci.errors import OciError

_THREADED = frozenset({"cpu", "cpuset", "perf_event", "pids"})
"""v2 controllers that a group with processes of its own may hand down."""


def entrance(group: Cgroup, sub_groups: Sequence[str], init_pid: int) -> Entrance:
    """Return the open files by which a process enters. Raises OciError, GuestVanished, KernelRefused."""
    directories = directories_of(group, sub_groups)
    unified = directories.get(_unified(group))
    if unified is not None and not sub_groups and _is_divided(unified):
        # A v2 group that its own init has divided takes no process; init's part of it does.
        directories[_unified(group)] = _group_of_init(group, init_pid) or unified
    return Entrance(Cgroup(group.host, group.path, directories))


def _is_divided(directory: str) -> bool:
    handed = (read_text(f"{directory}/cgroup.subtree_control") or "").split()
    return not _THREADED.issuperset(handed)


def directories_of(group: Cgroup, sub_groups: Sequence[str]) -> dict[str, str]:
    """Return the folder to enter in each hierarchy, by mount point. Raises OciError."""
    found = dict(group.directories)
    for text in sub_groups:
        controllers, colon, path = text.rpartition(":")
        wanted = controllers.split(",") if colon else []
        relative = os.path.normpath(path.lstrip("/") or ".")
        if relative.split("/")[0] == "..":
            raise OciError(f"bad sub cgroup path: {path}")
        for mount in _mounts_of(group, wanted) if colon else list(group.directories):
            folder = os.path.join(group.directories[mount], relative)
            if not os.path.isdir(folder):
                said = "no such file or directory"
                raise OciError(f"error adding pid {os.getpid()} to cgroups: open {folder}/cgroup.procs: {said}")
            found[mount] = folder
    return found


def _mounts_of(group: Cgroup, controllers: Sequence[str]) -> list[str]:
    mounts = []
    for controller in controllers:
        hierarchy = group.host.unified if controller == "" else group.host.hierarchy(controller)
        if hierarchy is None or hierarchy.mount not in group.directories:
            raise OciError(f"unknown controller {controller} in --cgroup")
        mounts.append(hierarchy.mount)
    return mounts


def _unified(group: Cgroup) -> str:
    return group.host.unified.mount if group.host.unified is not None else ""


def _group_of_init(group: Cgroup, pid: int) -> str:
    found = group.host.group_of(pid)
    return found.unified or ""
