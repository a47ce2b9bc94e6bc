"""Where a container's control groups are, and whether it may have them.

cgroupsPath (config-linux.md) is taken from the tops of the hierarchies, be it absolute or relative, so that the
same value means the same place whoever calls. A plain user's groups go beside the group it is in, which systemd
delegates on v2 hosts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from backends.errors import Unsupported
from backends.kernel.cgroup import Cgroup, CgroupHost
from backends.kernel.cgroup_file import read_text
from backends.kernel.cgroup_hierarchy import Hierarchy, parse_proc_cgroup
from backends.oci.errors import ConfigInvalid, OciError
from backends.trace import Step

DEFAULT_PARENT = "innkeeper-oci"
_UNIFIED_ONLY = {"hugepageLimits": "hugetlb", "rdma": "rdma"}


def place(config: Mapping[str, Any], container_id: str, *, systemd: bool = False) -> str:
    """Return the path of a container's group below the tops of the hierarchies.

    Raises ConfigInvalid for what is no path, or not of systemd's form, and Unsupported where systemd does not run.
    """
    path = (config.get("linux") or {}).get("cgroupsPath") or ""
    if systemd:
        return _in_systemd(path, container_id)
    if "\0" in path:
        raise ConfigInvalid("linux.cgroupsPath: contains a NUL")
    clean = os.path.normpath("/" + path).strip("/")
    if path and not clean:
        raise ConfigInvalid(f'linux.cgroupsPath: "{path}" is the top of the hierarchies, which is no container\'s own')
    if not path:
        clean = f"{DEFAULT_PARENT}/{container_id}"
    return clean if path.startswith("/") else os.path.join(_own_place(), clean)


def _own_place() -> str:
    """Where a plain user's groups go: beside its own group, as that has processes; root's go to the top."""
    if os.geteuid() == 0 and not _is_nested_root():
        return ""
    own = parse_proc_cgroup(read_text("/proc/self/cgroup") or "").get("v2", "/")
    return os.path.dirname(own).strip("/")


def _is_nested_root() -> bool:
    return (read_text("/proc/self/uid_map") or "").split() != ["0", "0", "4294967295"]


def _in_systemd(path: str, container_id: str) -> str:
    """Check systemd's "slice:prefix:name", and refuse: a scope is systemd's to make, over D-Bus."""
    parts = path.split(":") if path else ["system.slice", "innkeeper", container_id]
    if len(parts) != 3:
        raise ConfigInvalid(
            f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "{path}" instead'
        )
    if not os.path.isdir("/run/systemd/system"):
        raise Unsupported("systemd not running on this host, cannot use systemd cgroups manager")
    raise Unsupported(
        "groups made by systemd are not supported by this runtime",
        hint="use the cgroupfs manager: without --systemd-cgroup, podman --cgroup-manager=cgroupfs",
    )


def create_steps(group: Cgroup, resources: Mapping[str, Any]) -> list[Step]:
    """Return the steps that make a container's group: on v2 with all controllers there are, as runc does.

    On a hybrid host the v2 tree hands down only what the resources need of it.
    """
    unified = group.host.unified
    if unified is None:
        return group.create_steps()
    wanted = {controller for name, controller in _UNIFIED_ONLY.items() if resources.get(name)}
    wanted.update(name.partition(".")[0] for name in resources.get("unified") or ())
    extra = unified.controllers if group.host.mode == "v2" else wanted & unified.controllers
    return group.create_steps(sorted(extra - set(unified.used_v2)))


def check_unused(group: Cgroup) -> None:
    """Refuse a group that another container's processes are in, or that is frozen. Raises OciError, runc's words."""
    if not group.exists():
        return
    count = len(group.procs())
    if count:
        raise OciError(f"container's cgroup is not empty: {count} process(es) found")
    if group.is_frozen_itself():
        raise OciError("container's cgroup unexpectedly frozen")


def usable(group: Cgroup, config: Mapping[str, Any]) -> Cgroup | None:
    """Return the group with the hierarchies that this user may make groups in; None if there is none.

    Only for others than root, where runc's rule holds: what cannot be made is an error if a path or limits were
    asked for (OciError, runc's words), and else the container goes without.
    """
    if os.geteuid() == 0 and not _is_nested_root():
        return group
    places = {hierarchy.mount: hierarchy for hierarchy in group.host.hierarchies}
    refused = [folder for mount, folder in group.directories.items() if not _can_use(places[mount], folder)]
    if not refused:
        return group
    # In hybrid mode the limits are v1's, and v2 is not missed.
    has_path = bool((config.get("linux") or {}).get("cgroupsPath"))
    if has_path and not (group.host.mode == "hybrid" and refused == [group.unified]):
        raise OciError(f"unable to apply cgroup configuration: mkdir {refused[0]}: permission denied")
    left = {mount: folder for mount, folder in group.directories.items() if folder not in refused}
    if group.host.mode == "v2" and _needs_controllers(config, group.host):
        raise OciError(
            "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: "
            f"mkdir {refused[0]}: permission denied"
        )
    for part, names in _CONTROLLERS.items():
        found = [hierarchy for name in names if (hierarchy := group.host.hierarchy(name)) is not None]
        if _limits(config).get(part) and any(hierarchy.mount not in left for hierarchy in found):
            raise OciError(f"cannot set {part} limit: container could not join or create cgroup")
    return Cgroup(group.host, group.path, left) if left else None


def _can_use(hierarchy: Hierarchy, directory: str) -> bool:
    """True if the missing folders can be made, and a process of ours be moved there."""
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    if not os.access(directory, os.W_OK | os.X_OK) or not os.access(f"{directory}/cgroup.procs", os.W_OK):
        return False
    if hierarchy.version == 1:
        return True
    # In v2 whoever moves a process must also hold the nearest group above both places.
    own = parse_proc_cgroup(read_text("/proc/self/cgroup") or "").get("v2", "/")
    above = os.path.commonpath([directory, hierarchy.directory(hierarchy.relative(own)).rstrip("/")])
    return os.access(f"{above}/cgroup.procs", os.W_OK)


def _needs_controllers(config: Mapping[str, Any], host: CgroupHost) -> bool:
    return any(_limits(config).get(part) and host.controllers & set(names) for part, names in _CONTROLLERS.items())


def _limits(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return (config.get("linux") or {}).get("resources") or {}


_CONTROLLERS = {
    "memory": ("memory",),
    "cpu": ("cpu", "cpuset"),
    "pids": ("pids",),
    "blockIO": ("io",),
    "hugepageLimits": ("hugetlb",),
    "rdma": ("rdma",),
}
"""Part of linux.resources → who holds it."""
