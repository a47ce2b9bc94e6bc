"""Counters in cgroup v1 files, as `runc events --stats` names them.

admin-guide/cgroup-v1/{cpuacct,memory,blkio-controller}.rst.
"""

from __future__ import annotations

from typing import Any

from backends.kernel.cgroup_file import parse_amount, parse_keyed, read_text

_NS_PER_TICK = 10_000_000
"""cpuacct.stat counts in hundredths of a second whatever the kernel's own clock."""

_BLOCK_FILES: dict[str, tuple[str, ...]] = {
    "ioServiceBytesRecursive": ("bfq.io_service_bytes_recursive", "throttle.io_service_bytes_recursive"),
    "ioServicedRecursive": ("bfq.io_serviced_recursive", "throttle.io_serviced_recursive"),
    "ioQueueRecursive": ("bfq.io_queued_recursive",),
    "ioServiceTimeRecursive": ("bfq.io_service_time_recursive",),
    "ioWaitTimeRecursive": ("bfq.io_wait_time_recursive",),
    "ioMergedRecursive": ("bfq.io_merged_recursive",),
    "ioTimeRecursive": ("bfq.time_recursive",),
    "sectorsRecursive": ("bfq.sectors_recursive",),
}
"""Table → files below "blkio.", the first that has lines counts: bfq's are empty where it schedules no disk."""


def cpu_usage(directory: str) -> dict[str, Any]:
    """Return total, per CPU, kernel and user time in ns."""
    ticks = parse_keyed(read_text(f"{directory}/cpuacct.stat"))
    found: dict[str, Any] = {
        "total": _number(read_text(f"{directory}/cpuacct.usage")),
        "kernel": _number(ticks.get("system")) * _NS_PER_TICK,
        "user": _number(ticks.get("user")) * _NS_PER_TICK,
    }
    files = (("percpu", ""), ("percpu_kernel", "_sys"), ("percpu_user", "_user"))
    for key, suffix in files:
        numbers = [int(word) for word in (read_text(f"{directory}/cpuacct.usage_percpu{suffix}") or "").split()]
        if numbers:
            found[key] = numbers
    return found


def memory(directory: str) -> dict[str, Any]:
    """Return use, limits and how often they were hit; swap is memory and swap together."""
    raw = {key: int(value) for key, value in parse_keyed(read_text(f"{directory}/memory.stat")).items()}
    parts = (("usage", "memory"), ("swap", "memory.memsw"), ("kernel", "memory.kmem"), ("kernelTCP", "memory.kmem.tcp"))
    entries = {key: _entry(f"{directory}/{prefix}") for key, prefix in parts}
    return {"cache": raw.get("cache", 0), **entries, "raw": raw}


def _entry(prefix: str) -> dict[str, int]:
    usage = read_text(f"{prefix}.usage_in_bytes")
    if usage is None:
        return {}
    return {
        "limit": _number(read_text(f"{prefix}.limit_in_bytes")),
        "usage": _number(usage),
        "max": _number(read_text(f"{prefix}.max_usage_in_bytes")),
        "failcnt": _number(read_text(f"{prefix}.failcnt")),
    }


def block_io(directory: str) -> dict[str, Any]:
    """Return tables of (disk, operation, value)."""
    found = {}
    for table, names in _BLOCK_FILES.items():
        for name in names:
            entries = _entries(read_text(f"{directory}/blkio.{name}"))
            if entries:
                found[table] = entries
                break
    return found


def _entries(text: str | None) -> list[dict[str, Any]]:
    found = []
    for line in (text or "").splitlines():
        device, *rest = line.split()
        major, colon, minor = device.partition(":")
        if colon and rest:
            entry: dict[str, Any] = {"major": int(major), "minor": int(minor)}
            if len(rest) > 1:
                entry["op"] = rest[0]
            found.append({**entry, "value": int(rest[-1])})
    return found


def _number(text: str | None) -> int:
    return parse_amount(text) or 0
