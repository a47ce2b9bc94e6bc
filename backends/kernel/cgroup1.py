"""Limits in cgroup v1 files: which text goes into which file, and back.

Documentation/scheduler/sched-bwc.rst (cpu.cfs_*), admin-guide/cgroup-v1/cpusets.rst, memory.rst (limit and
memsw), pids.rst, blkio-controller.rst (throttle).

What v1 lacks: memory.high (its soft_limit_in_bytes only steers global reclaim and throttles nobody), and
limits on buffered writes, which the kernel's writeback threads do in the root group's name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from backends.errors import UsageError
from backends.kernel import cgroup_values as values
from backends.kernel.cgroup_file import parse_amount, parse_keyed, read_text
from backends.kernel.cgroup_shrink import ShrinkMemory
from backends.kernel.cgroup_steps import WriteFile
from backends.kernel.cgroup_values import NO_IO, PERIOD_US, IoValues
from backends.model import Limits

DEFAULT_SHARES = 1024
ENDLESS_BYTES = 1 << 62
"""From here on a v1 memory limit means none: the kernel shows LONG_MAX rounded down to a page."""

_IO_FILES = ("read_bps_device", "write_bps_device", "read_iops_device", "write_iops_device")


def cpu_steps(directory: str, wanted: Limits, current: Limits) -> list[WriteFile]:
    """cpu.cfs_period_us, cpu.cfs_quota_us (-1 is none) and cpu.shares (2 to 262144)."""
    steps = _quota_steps(f"{directory}/cpu.cfs_", wanted, current)
    if wanted.cpu_weight != current.cpu_weight:
        shares = DEFAULT_SHARES if wanted.cpu_weight is None else values.weight_to_shares(wanted.cpu_weight)
        meaning = _say("CPU weight", wanted.cpu_weight)
        steps.append(WriteFile(f"{directory}/cpu.shares", str(shares), meaning))
    return steps


def _quota_steps(prefix: str, wanted: Limits, current: Limits) -> list[WriteFile]:
    new, old = values.quota(wanted.cpus), values.quota(current.cpus)
    steps = []
    if new[1] != old[1]:
        # A long quota in a short period would exceed the group above for a moment, so lift it between.
        steps.append(WriteFile(f"{prefix}quota_us", "-1", "no CPU quota while the period changes"))
        steps.append(WriteFile(f"{prefix}period_us", str(new[1]), "enforcement period"))
    if new != old:
        text = "-1" if new[0] is None else str(new[0])
        steps.append(WriteFile(f"{prefix}quota_us", text, _say("CPU quota", wanted.cpus, " cores")))
    return steps


def cpuset_steps(directory: str, wanted: Limits, current: Limits) -> list[WriteFile]:
    """cpuset.cpus; it cannot be empty here, so "no limit" is what the group above has."""
    if _cpus(wanted.cpuset) == _cpus(current.cpuset):
        return []
    text = wanted.cpuset or read_text(f"{os.path.dirname(directory)}/cpuset.cpus") or _root_cpus()
    return [WriteFile(f"{directory}/cpuset.cpus", text, _say("CPUs", wanted.cpuset))]


def memory_steps(directory: str, wanted: Limits, current: Limits) -> list[WriteFile]:
    """memory.limit_in_bytes and memory.memsw.limit_in_bytes, the sum of memory and swap.

    The kernel holds limit <= memsw at every moment, so raising writes memsw first, lowering last.
    """
    new, old = _memory_pair(wanted), _memory_pair(current)
    hard = _amount(f"{directory}/memory.limit_in_bytes", "memory limit", new[0], old[0])
    both = _amount(f"{directory}/memory.memsw.limit_in_bytes", "limit of memory and swap", new[1], old[1])
    return [*both, *hard] if new[1] > old[1] else [*hard, *both]


def _memory_pair(limits: Limits) -> tuple[int, int]:
    memory = values.whole_pages(limits.memory_bytes)
    swap = values.whole_pages(limits.swap_bytes)
    if swap is None:
        return (ENDLESS_BYTES if memory is None else memory), ENDLESS_BYTES
    if memory is None:
        raise UsageError("on cgroup v1 swap can only be limited together with memory", hint="give a memory limit too")
    return memory, memory + swap


def pids_steps(directory: str, wanted: Limits, current: Limits) -> list[WriteFile]:
    """pids.max."""
    if wanted.pids == current.pids:
        return []
    return [WriteFile(f"{directory}/pids.max", str(wanted.pids or "max"), _say("task limit", wanted.pids))]


def io_steps(directory: str, wanted: Mapping[str, IoValues], current: Mapping[str, IoValues]) -> list[WriteFile]:
    """blkio.throttle.*_device, one line a device: "254:0 1048576"; 0 lifts it."""
    steps = []
    for number in sorted(wanted.keys() | current.keys()):
        pairs = zip(wanted.get(number, NO_IO), current.get(number, NO_IO), strict=True)
        for name, (new, old) in zip(_IO_FILES, pairs, strict=True):
            if new != old:
                path = f"{directory}/blkio.throttle.{name}"
                steps.append(WriteFile(path, f"{number} {new or 0}", "I/O limit", number, f"{number} 0"))
    return steps


def read_cpu(directory: str) -> dict[str, Any]:
    """Return cpus and cpu_weight as in the kernel now."""
    period_us = parse_amount(read_text(f"{directory}/cpu.cfs_period_us")) or PERIOD_US
    shares = parse_amount(read_text(f"{directory}/cpu.shares"))
    return {
        "cpus": values.cores(parse_amount(read_text(f"{directory}/cpu.cfs_quota_us")), period_us),
        "cpu_weight": None if shares in (None, DEFAULT_SHARES) else values.shares_to_weight(shares or 0),
    }


def read_cpuset(directory: str) -> dict[str, Any]:
    """Return cpuset; None where the group runs on the CPUs of the group above."""
    own = read_text(f"{directory}/cpuset.cpus") or None
    above = read_text(f"{os.path.dirname(directory)}/cpuset.cpus")
    return {"cpuset": None if own is None or above is None or _cpus(own) == _cpus(above) else own}


def read_memory(directory: str) -> dict[str, Any]:
    """Return memory_bytes and swap_bytes."""
    memory = endless(parse_amount(read_text(f"{directory}/memory.limit_in_bytes")))
    both = endless(parse_amount(read_text(f"{directory}/memory.memsw.limit_in_bytes")))
    return {"memory_bytes": memory, "swap_bytes": None if both is None or memory is None else both - memory}


def read_pids(directory: str) -> dict[str, Any]:
    """Return pids."""
    return {"pids": parse_amount(read_text(f"{directory}/pids.max"))}


def read_io(directory: str) -> dict[str, IoValues]:
    """Return "MAJOR:MINOR" → limits."""
    files = [parse_keyed(read_text(f"{directory}/blkio.throttle.{name}")) for name in _IO_FILES]
    table: dict[str, IoValues] = {}
    for number in set().union(*files):
        rbps, wbps, riops, wiops = (parse_amount(lines.get(number)) for lines in files)
        table[number] = (rbps, wbps, riops, wiops)
    return table


def endless(limit_bytes: int | None) -> int | None:
    """Return None for a limit so high that it is none."""
    return None if limit_bytes is None or limit_bytes >= ENDLESS_BYTES else limit_bytes


def _amount(path: str, title: str, new: int, old: int) -> list[WriteFile]:
    if new == old:
        return []
    if new >= ENDLESS_BYTES:
        return [WriteFile(path, "-1", f"no {title}")]
    kind = ShrinkMemory if new < old else WriteFile
    return [kind(path, str(new), f"{title} {new} bytes")]


def _cpus(text: str | None) -> frozenset[int] | None:
    return None if text is None else values.parse_cpu_list(text)


def _root_cpus() -> str:
    return read_text("/sys/devices/system/cpu/online") or "0"


def _say(title: str, value: object, unit: str = "") -> str:
    return f"no {title}" if value is None else f"{title} {value}{unit}"
