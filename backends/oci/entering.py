"""Putting a process into a live container's control group, or one below it (`exec --cgroup`)."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from backends.errors import KernelRefused
from backends.kernel.cgroup import Cgroup
from backends.kernel.cgroup_steps import AttachProcess
from backends.oci.errors import OciError


def enter(group: Cgroup, sub_groups: Sequence[str], init_pid: int) -> None:
    """Move this process. Raises OciError, KernelRefused."""
    directories = directories_of(group, sub_groups)
    for mount, directory in directories.items():
        try:
            AttachProcess(directory, os.getpid()).run()
        except KernelRefused as error:
            # A v2 group that its own init has divided takes no process; init's part of it does.
            if error.errno not in (errno.EBUSY, errno.EOPNOTSUPP) or sub_groups or mount != _unified(group):
                raise
            AttachProcess(_group_of_init(group, init_pid), os.getpid()).run()


def directories_of(group: Cgroup, sub_groups: Sequence[str]) -> dict[str, str]:
    """Return the folder to enter in each hierarchy, by mount point. Raises OciError."""
    found = dict(group.directories)
    for text in sub_groups:
        controllers, colon, path = text.rpartition(":")
        wanted = controllers.split(",") if colon else []
        relative = os.path.normpath("/" + path).lstrip("/")
        for mount in _mounts_of(group, wanted) if colon else list(group.directories):
            folder = os.path.join(group.directories[mount], relative)
            if not os.path.isdir(folder):
                raise OciError(f"container's cgroup has no sub-cgroup {path}: no such file or directory")
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
