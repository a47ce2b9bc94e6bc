"""Limits in cgroup v2 files: which text goes into which file, and back.

Documentation/admin-guide/cgroup-v2.rst: "CPU Interface Files", "Cpuset Interface Files", "Memory Interface
Files", "PID Interface Files", "IO Interface Files".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.kernel import cgroup_values as values
from backends.kernel.cgroup_file import parse_amount, parse_keyed, read_text
from backends.kernel.cgroup_steps import WriteFile
from backends.kernel.cgroup_values import NO_IO, PERIOD_US, IoValues
from backends.model import Limits

DEFAULT_WEIGHT = 100
_IO_KEYS = ("rbps", "wbps", "riops", "wiops")


def cpu_steps(directory: str, wanted: Limits, current: Limits) -> list[WriteFile]:
    """cpu.max "QUOTA PERIOD" and cpu.weight 1 to 10000."""
    steps = []
    new, old = values.quota(wanted.cpus), values.quota(current.cpus)
    if new != old:
        text = f"{'max' if new[0] is None else new[0]} {new[1]}"
        steps.append(WriteFile(f"{directory}/cpu.max", text, _say("CPU quota", wanted.cpus, " cores")))
    if wanted.cpu_weight != current.cpu_weight:
        text = str(wanted.cpu_weight or DEFAULT_WEIGHT)
        steps.append(WriteFile(f"{directory}/cpu.weight", text, _say("CPU weight", wanted.cpu_weight)))
    return steps


def cpuset_steps(directory: str, wanted: Limits, current: Limits) -> list[WriteFile]:
    """cpuset.cpus; empty means: as the group above."""
    if _cpus(wanted) == _cpus(current):
        return []
    return [WriteFile(f"{directory}/cpuset.cpus", wanted.cpuset or "", _say("CPUs", wanted.cpuset))]


def memory_steps(directory: str, wanted: Limits, current: Limits) -> list[WriteFile]:
    """memory.high, memory.max and memory.swap.max.

    Lowering throttles first (memory.high), then caps; raising lifts the cap first. Setting memory.max below
    use never fails: the kernel reclaims, and then its OOM killer acts.
    """
    high = _amount(
        directory, "memory.high", "memory throttling limit", wanted.memory_high_bytes, current.memory_high_bytes
    )
    hard = _amount(directory, "memory.max", "memory limit", wanted.memory_bytes, current.memory_bytes)
    swap = _amount(directory, "memory.swap.max", "swap limit", wanted.swap_bytes, current.swap_bytes)
    raising = _or_endless(wanted.memory_bytes) > _or_endless(current.memory_bytes)
    return [*hard, *swap, *high] if raising else [*swap, *high, *hard]


def pids_steps(directory: str, wanted: Limits, current: Limits) -> list[WriteFile]:
    """pids.max."""
    if wanted.pids == current.pids:
        return []
    return [WriteFile(f"{directory}/pids.max", str(wanted.pids or "max"), _say("task limit", wanted.pids))]


def io_steps(directory: str, wanted: Mapping[str, IoValues], current: Mapping[str, IoValues]) -> list[WriteFile]:
    """io.max, one line a device: "254:0 rbps=1048576 wbps=max riops=max wiops=max"."""
    steps = []
    for number in sorted(wanted.keys() | current.keys()):
        new = wanted.get(number, NO_IO)
        if new != current.get(number, NO_IO):
            path = f"{directory}/io.max"
            steps.append(WriteFile(path, _io_line(number, new), "I/O limits", number, _io_line(number, NO_IO)))
    return steps


def read_cpu(directory: str) -> dict[str, Any]:
    """Return cpus and cpu_weight as in the kernel now."""
    words = (read_text(f"{directory}/cpu.max") or "").split()
    period_us = parse_amount(words[1]) if len(words) > 1 else PERIOD_US
    weight = parse_amount(read_text(f"{directory}/cpu.weight"))
    return {
        "cpus": values.cores(parse_amount(words[0]) if words else None, period_us or PERIOD_US),
        "cpu_weight": None if weight == DEFAULT_WEIGHT else weight,
    }


def read_cpuset(directory: str) -> dict[str, Any]:
    """Return cpuset; None where the group runs on the CPUs of the group above."""
    return {"cpuset": read_text(f"{directory}/cpuset.cpus") or None}


def read_memory(directory: str) -> dict[str, Any]:
    """Return memory_bytes, memory_high_bytes and swap_bytes."""
    return {
        "memory_bytes": parse_amount(read_text(f"{directory}/memory.max")),
        "memory_high_bytes": parse_amount(read_text(f"{directory}/memory.high")),
        "swap_bytes": parse_amount(read_text(f"{directory}/memory.swap.max")),
    }


def read_pids(directory: str) -> dict[str, Any]:
    """Return pids."""
    return {"pids": parse_amount(read_text(f"{directory}/pids.max"))}


def read_io(directory: str) -> dict[str, IoValues]:
    """Return "MAJOR:MINOR" → limits."""
    return parse_io_max(read_text(f"{directory}/io.max"))


def parse_io_max(text: str | None) -> dict[str, IoValues]:
    """Parse io.max (nested keyed)."""
    table = {}
    for number, rest in parse_keyed(text).items():
        pairs = dict(word.partition("=")[::2] for word in rest.split())
        rbps, wbps, riops, wiops = (parse_amount(pairs.get(key)) for key in _IO_KEYS)
        table[number] = (rbps, wbps, riops, wiops)
    return table


def _io_line(number: str, limits: IoValues) -> str:
    pairs = zip(_IO_KEYS, limits, strict=True)
    return " ".join([number, *(f"{key}={'max' if value is None else value}" for key, value in pairs)])


def _amount(directory: str, name: str, title: str, wanted: int | None, current: int | None) -> list[WriteFile]:
    new = values.whole_pages(wanted)
    if new == values.whole_pages(current):
        return []
    return [WriteFile(f"{directory}/{name}", "max" if new is None else str(new), _say(title, new, " bytes"))]


def _cpus(limits: Limits) -> frozenset[int] | None:
    return None if limits.cpuset is None else values.parse_cpu_list(limits.cpuset)


def _or_endless(size: int | None) -> float:
    return float("inf") if size is None else size


def _say(title: str, value: object, unit: str = "") -> str:
    return f"no {title}" if value is None else f"{title} {value}{unit}"
