"""Values as the kernel takes them, shared by both cgroup versions: quotas, weights, CPU lists, page sizes."""

from __future__ import annotations

import math
import os
from dataclasses import replace

from backends.errors import UsageError
from backends.kernel import block
from backends.kernel.number_list import numbers_of
from backends.model import DeviceIo, Limits

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PERIOD_US = 100_000
"""The kernel's default enforcement period."""

_LONG_PERIOD_US = 1_000_000
_MOST_CPUS = 1e6
_MIN_QUOTA_US = 1_000

NO_IO = (None, None, None, None)
IoValues = tuple[int | None, int | None, int | None, int | None]
"""Bytes read, bytes written, reads, writes, each a second; None is no limit."""

_IO_FIELDS = ("read_bytes_per_s", "write_bytes_per_s", "read_ops_per_s", "write_ops_per_s")


def quota(cpus: float | None) -> tuple[int | None, int]:
    """Return (quota, period) in µs for a number of cores; no quota for None.

    The kernel takes no quota below 1 ms (Documentation/scheduler/sched-bwc.rst), so small ones get a period
    of 1 s, the longest allowed.
    """
    if cpus is None:
        return None, PERIOD_US
    if not -math.inf < cpus < _MOST_CPUS:  # also "not a number"
        raise UsageError(f"a CPU limit of {cpus:g} cores is more than any host has; none lifts the limit")
    period_us = PERIOD_US if cpus * PERIOD_US >= _MIN_QUOTA_US else _LONG_PERIOD_US
    quota_us = round(cpus * period_us)
    if quota_us < _MIN_QUOTA_US:
        raise UsageError(f"a CPU limit of {cpus:g} cores is below the smallest the kernel takes, 0.001")
    return quota_us, period_us


def cores(quota_us: int | None, period_us: int) -> float | None:
    """The reverse of quota()."""
    return None if quota_us is None or quota_us < 0 or period_us <= 0 else round(quota_us / period_us, 6)


def shares_to_weight(shares: int) -> int:
    """Convert v1 cpu.shares (2 to 262144) to v2 cpu.weight (1 to 10000), both kernels' defaults onto each other.

    The log-quadratic formula of the container runtimes since 2025: 2 → 1, 1024 → 100, 262144 → 10000. The
    linear one before it made 39 of the default.
    """
    log = math.log2(min(max(shares, 2), 262_144))
    exponent = (log * log + 125 * log) / 612 - 7 / 34
    return min(max(math.ceil(10**exponent - 1e-9), 1), 10_000)


def weight_to_shares(weight: int) -> int:
    """The inverse of shares_to_weight: the largest shares that convert back to this weight."""
    log = (-125 + math.sqrt(15_625 + 4 * 612 * (math.log10(min(max(weight, 1), 10_000)) + 7 / 34))) / 2
    return min(max(math.floor(2**log + 1e-6), 2), 262_144)


def parse_cpu_list(text: str) -> frozenset[int]:
    """Parse a kernel CPU list, "0-1,3". Raises UsageError."""
    try:
        return frozenset(numbers_of(text))
    except ValueError:
        raise UsageError(f'"{text}" is no list of CPUs', hint='write it as "0-1,3"') from None


def format_cpu_list(cpus: frozenset[int]) -> str:
    """Write CPUs as the kernel does: "0-1,3"."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def whole_pages(size_bytes: int | None) -> int | None:
    """Round down to whole pages, as the kernel does."""
    return None if size_bytes is None else size_bytes // PAGE_BYTES * PAGE_BYTES


def check(limits: Limits, online_cpus: frozenset[int]) -> None:
    """Raise UsageError for the first value that no kernel takes."""
    quota(limits.cpus)
    if limits.cpu_weight is not None and not 1 <= limits.cpu_weight <= 10_000:
        raise UsageError(f"a CPU weight of {limits.cpu_weight} is not between 1 and 10000")
    for title, size in (("memory limit", limits.memory_bytes), ("memory throttling limit", limits.memory_high_bytes)):
        if size is not None and size < PAGE_BYTES:
            raise UsageError(f"a {title} of {size} bytes is less than one page ({PAGE_BYTES} bytes)")
    if limits.swap_bytes is not None and limits.swap_bytes < 0:
        raise UsageError(f"a swap limit of {limits.swap_bytes} bytes makes no sense")
    if limits.pids is not None and limits.pids < 1:
        raise UsageError(f"a limit of {limits.pids} tasks leaves none for the guest's first process")
    _check_cpuset(limits.cpuset, online_cpus)
    for values in (_scalar_io(limits), *(_device_io(entry) for entry in limits.io_devices)):
        if any(value is not None and value < 1 for value in values):
            raise UsageError("an I/O limit must be at least 1 per second", hint='"none" lifts a limit')


def _check_cpuset(text: str | None, online_cpus: frozenset[int]) -> None:
    if text is None:
        return
    wanted = parse_cpu_list(text)
    if not wanted:
        raise UsageError("an empty list of CPUs leaves none to run on", hint='"none" lifts the limit')
    missing = wanted - online_cpus
    if missing and online_cpus:
        raise UsageError(
            f"there is no CPU {format_cpu_list(missing)}", hint=f"this host has {format_cpu_list(online_cpus)}"
        )


def io_table(limits: Limits) -> dict[str, IoValues]:
    """Spread the I/O limits over devices: "MAJOR:MINOR" → values.

    The four scalar limits hold for each whole disk of the host, an entry of io_devices replaces them for its
    disk. Raises UsageError for a device that does not exist.
    """
    scalar = _scalar_io(limits)
    table: dict[str, IoValues] = {}
    if scalar != NO_IO:
        table = {disk.number: scalar for disk in block.whole_disks()}
    for entry in limits.io_devices:
        table[block.disk_of(entry.device).number] = _device_io(entry)
    return table


def io_limits(table: dict[str, IoValues]) -> Limits:
    """The reverse of io_table: scalars where every whole disk has the same values, else named devices."""
    known = {disk.number for disk in block.whole_disks()}
    seen = {number: values for number, values in table.items() if values != NO_IO}
    common = {seen.get(number, NO_IO) for number in known}
    if len(common) == 1 and known and seen.keys() <= known:
        read_bytes, write_bytes, read_ops, write_ops = common.pop()
        return Limits(
            io_read_bytes_per_s=read_bytes,
            io_write_bytes_per_s=write_bytes,
            io_read_ops_per_s=read_ops,
            io_write_ops_per_s=write_ops,
        )
    entries = []
    for number, values in sorted(seen.items()):
        disk = block.disk_named(number)
        entries.append(DeviceIo(disk.path if disk else number, *values))
    return Limits(io_devices=tuple(entries))


def merge_io(limits: Limits, source: Limits) -> Limits:
    """Return limits with the I/O fields of another."""
    return replace(
        limits, io_devices=source.io_devices, **{f"io_{name}": getattr(source, f"io_{name}") for name in _IO_FIELDS}
    )


def _scalar_io(limits: Limits) -> IoValues:
    return (
        limits.io_read_bytes_per_s,
        limits.io_write_bytes_per_s,
        limits.io_read_ops_per_s,
        limits.io_write_ops_per_s,
    )


def _device_io(entry: DeviceIo) -> IoValues:
    return (entry.read_bytes_per_s, entry.write_bytes_per_s, entry.read_ops_per_s, entry.write_ops_per_s)
