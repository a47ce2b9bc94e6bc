"""Which fields of Limits this host's cgroups can hold, and why not the others."""

from __future__ import annotations

import os
from collections.abc import Callable

from backends.kernel import block
from backends.kernel.cgroup_hierarchy import Hierarchy

_IO = ("io_read_bytes_per_s", "io_write_bytes_per_s", "io_read_ops_per_s", "io_write_ops_per_s")

FIELDS_OF: dict[str, tuple[str, ...]] = {
    "cpu": ("cpus", "cpu_weight"),
    "cpuset": ("cpuset",),
    "memory": ("memory_bytes", "memory_high_bytes", "swap_bytes"),
    "pids": ("pids",),
    "io": (*_IO, "io_devices"),
    "net": ("net_rx_bytes_per_s", "net_tx_bytes_per_s", "net_delay_s", "net_jitter_s", "net_loss_pct"),
}
"""Controller → fields of Limits; "net" is no controller: nothing in a cgroup limits what a network carries."""

_FILES: dict[str, tuple[str, str]] = {
    "cpus": ("cpu.cfs_quota_us", "cpu.max"),
    "cpu_weight": ("cpu.shares", "cpu.weight"),
    "cpuset": ("cpuset.cpus", "cpuset.cpus"),
    "memory_bytes": ("memory.limit_in_bytes", "memory.max"),
    "memory_high_bytes": ("", "memory.high"),
    "swap_bytes": ("memory.memsw.limit_in_bytes", "memory.swap.max"),
    "pids": ("", "pids.max"),
    "io_devices": ("blkio.throttle.read_bps_device", "io.max"),
    **dict.fromkeys(_IO, ("blkio.throttle.read_bps_device", "io.max")),
}

_DIRECT_ONLY = "cgroup v1 limits direct and synchronous writes only; the kernel writes buffered ones back unlimited"

Find = Callable[[str], Hierarchy | None]


def reasons(find: Find) -> dict[str, str]:
    """Map each field to "" or to the reason why it cannot be set."""
    return {
        name: _reason(controller, name, find(controller)) for controller, names in FIELDS_OF.items() for name in names
    }


def _reason(controller: str, field: str, hierarchy: Hierarchy | None) -> str:
    if controller == "net":
        return "what a network carries is no cgroup limit"
    if hierarchy is None:
        return f"this kernel has no cgroup controller for it ({controller})"
    if not os.access(hierarchy.mount, os.W_OK):
        return f"this user may not make groups in {hierarchy.mount}; run as root, or in a delegated cgroup"
    if field == "memory_high_bytes" and hierarchy.version == 1:
        return "cgroup v1 has no throttling memory limit (its soft limit throttles nobody)"
    if field in _IO and not block.whole_disks():
        return "this host has no disk of its own to limit"
    return _missing_file(field, hierarchy)


def _missing_file(field: str, hierarchy: Hierarchy) -> str:
    """Look for the limit's file: at the top in v1, in any group below the top in v2, where the top has none."""
    name = _FILES[field][hierarchy.version - 1]
    if field == "swap_bytes" and hierarchy.version == 2 and not os.path.exists("/proc/swaps"):
        return "this kernel is built without swap"
    if not name:
        return ""
    folder: str | None = hierarchy.mount if hierarchy.version == 1 else _any_group(hierarchy, field)
    if folder is None or os.path.exists(f"{folder}/{name}"):
        return ""
    return (
        f"this kernel does not count swap (boot with swapaccount=1): no {name}"
        if field == "swap_bytes"
        else (f"this kernel is built without it: no {name}")
    )


def _any_group(hierarchy: Hierarchy, field: str) -> str | None:
    """Return a v2 group that has the field's controller switched on; None if there is none to look at."""
    controller = next(name for name, names in FIELDS_OF.items() if field in names)
    with os.scandir(hierarchy.mount) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and _has(entry.path, controller):
                return entry.path
    return None


def _has(folder: str, controller: str) -> bool:
    try:
        with open(f"{folder}/cgroup.controllers") as file:
            return controller in file.read().split()
    except OSError:
        return False


def caveats(find: Find) -> dict[str, str]:
    """Map fields that can be set but do less here than one would think to a sentence on it."""
    found = {}
    disk = find("io")
    if disk is not None and disk.version == 1:
        for field in ("io_write_bytes_per_s", "io_write_ops_per_s", "io_devices"):
            found[field] = _DIRECT_ONLY
    memory = find("memory")
    if memory is not None and memory.version == 1:
        found["swap_bytes"] = "cgroup v1 limits swap together with memory, so it needs a memory limit too"
    return found
