"""Counters of a container as `runc events --stats` gives them, from cgroup v1, hybrid and v2 hosts.

Names and units are runc's (bytes, nanoseconds; the largest 64-bit number is "no limit"); what a kernel does not
count is left out or 0, as there.
"""

from __future__ import annotations

import os
from typing import Any

from backends.kernel.cgroup import Cgroup
from backends.kernel.cgroup_file import GuestVanished, parse_amount, parse_keyed, read_text
from backends.kernel.cgroup_values import parse_cpu_list
from backends.oci import stats1

NO_LIMIT = (1 << 64) - 1
_NET_COLUMNS = {"RxBytes": 0, "RxPackets": 1, "RxErrors": 2, "RxDropped": 3,
                "TxBytes": 8, "TxPackets": 9, "TxErrors": 10, "TxDropped": 11}  # fmt: skip
_IO_KEYS = {
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
}
_CPUSET_FLAGS = ("cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
                 "memory_spread_slab", "memory_pressure", "sched_load_balance", "sched_relax_domain_level")  # fmt: skip


def read(group: Cgroup, pid: int | None = None) -> dict[str, Any]:
    """Return the "data" of a stats event; with a pid, also the interfaces of that process's network namespace.

    Raises GuestVanished.
    """
    if not group.exists():
        raise GuestVanished(f"cannot read statistics of {group.path}: the group is gone")
    return {
        "cpu": _cpu(group),
        "cpuset": _cpuset(group),
        "memory": _memory(group),
        "pids": _pids(group),
        "blkio": _block_io(group),
        "hugetlb": _huge_pages(group),
        "intel_rdt": {},
        "network_interfaces": None if pid is None else interfaces(pid),
    }


def _cpu(group: Cgroup) -> dict[str, Any]:
    version, directory = group.seat("cpu") or (2, group.unified or "")
    accounts = group.seat("cpuacct")
    if accounts and accounts[0] == 1:
        found = {"usage": stats1.cpu_usage(accounts[1]), "throttling": {}}
    else:
        found = {"usage": _cpu_usage2(group.unified or directory), "throttling": {}}
    counters = parse_keyed(read_text(f"{directory}/cpu.stat"))
    name, factor = ("throttled_time", 1) if version == 1 else ("throttled_usec", 1000)
    throttling = {
        "periods": _number(counters.get("nr_periods")),
        "throttledPeriods": _number(counters.get("nr_throttled")),
        "throttledTime": _number(counters.get(name)) * factor,
    }
    found["throttling"] = {key: value for key, value in throttling.items() if value}
    return _with_pressure(found, group, "cpu")


def _cpu_usage2(directory: str) -> dict[str, Any]:
    counters = parse_keyed(read_text(f"{directory}/cpu.stat"))
    names = (("total", "usage_usec"), ("kernel", "system_usec"), ("user", "user_usec"))
    return {key: _number(counters.get(name)) * 1000 for key, name in names}


def _cpuset(group: Cgroup) -> dict[str, Any]:
    version, directory = group.seat("cpuset") or (2, "")
    flags = _CPUSET_FLAGS if version == 1 else ()
    found: dict[str, Any] = {flag: _number(read_text(f"{directory}/cpuset.{flag}")) for flag in flags}
    found |= dict.fromkeys(_CPUSET_FLAGS, 0) | found
    for name in ("cpus", "mems"):
        listed = sorted(parse_cpu_list(read_text(f"{directory}/cpuset.{name}") or ""))
        if listed:
            found[name] = listed
    return found


def _memory(group: Cgroup) -> dict[str, Any]:
    version, directory = group.seat("memory") or (2, group.unified or "")
    found = stats1.memory(directory) if version == 1 else _memory2(directory)
    return _with_pressure(found, group, "memory")


def _memory2(directory: str) -> dict[str, Any]:
    raw = {key: int(value) for key, value in parse_keyed(read_text(f"{directory}/memory.stat")).items()}
    usage = _entry2(directory, "memory")
    usage["failcnt"] = _number(parse_keyed(read_text(f"{directory}/memory.events")).get("max"))
    swap = _entry2(directory, "memory.swap")
    if swap:  # v1's numbers are those of memory and swap together
        swap["usage"] += usage["usage"]
        swap["limit"] = min(swap["limit"] + usage["limit"], NO_LIMIT)
        swap["max"] = 0
    return {"cache": raw.get("file", 0), "usage": usage, "swap": swap, "raw": raw}


def _entry2(directory: str, prefix: str) -> dict[str, int]:
    current = read_text(f"{directory}/{prefix}.current")
    if current is None:
        return {}
    limit = parse_amount(read_text(f"{directory}/{prefix}.max"))
    return {
        "limit": NO_LIMIT if limit is None else limit,
        "usage": _number(current),
        "max": _number(read_text(f"{directory}/{prefix}.peak")),
        "failcnt": 0,
    }


def _pids(group: Cgroup) -> dict[str, int]:
    seat = group.seat("pids")
    if seat is None:
        return {}
    found = {
        "current": _number(read_text(f"{seat[1]}/pids.current")),
        "limit": _number(read_text(f"{seat[1]}/pids.max")),
    }
    return {key: value for key, value in found.items() if value}


def _block_io(group: Cgroup) -> dict[str, Any]:
    version, directory = group.seat("io") or (2, group.unified or "")
    found = stats1.block_io(directory) if version == 1 else _block_io2(directory)
    return _with_pressure(found, group, "io")


def _block_io2(directory: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for device, rest in parse_keyed(read_text(f"{directory}/io.stat")).items():
        major, _, minor = device.partition(":")
        for word in rest.split():
            key, _, value = word.partition("=")
            if key in _IO_KEYS and minor.isdigit():
                table, way = _IO_KEYS[key]
                entry = {"major": int(major), "minor": int(minor), "op": way, "value": int(value)}
                found.setdefault(table, []).append(entry)
    return found


def _huge_pages(group: Cgroup) -> dict[str, Any]:
    seat = group.seat("hugetlb")
    if seat is None:
        return {}
    version, directory = seat
    names = ("usage_in_bytes", "max_usage_in_bytes", "failcnt") if version == 1 else ("current", "", "events")
    found = {}
    for size in huge_page_sizes():
        for prefix in (f"{directory}/hugetlb.{size}.rsvd", f"{directory}/hugetlb.{size}"):
            usage = read_text(f"{prefix}.{names[0]}")
            if usage is None:
                continue
            failures = read_text(f"{prefix}.{names[2]}")
            if version == 2:
                events = read_text(f"{directory}/hugetlb.{size}.events")
                failures = parse_keyed(events).get("max")
            most = _number(read_text(f"{prefix}.{names[1]}")) if names[1] else 0
            found[size] = {"usage": _number(usage), "max": most, "failcnt": _number(failures)}
            break
    return found


def huge_page_sizes() -> list[str]:
    """Return the sizes that the kernel has, as the hugetlb controller names them: "2MB", "1GB"."""
    try:
        names = os.listdir("/sys/kernel/mm/hugepages")
    except FileNotFoundError:
        return []
    return [_in_units(int(name.removeprefix("hugepages-").removesuffix("kB"))) for name in sorted(names)]


def _in_units(kib: int) -> str:
    units = ["KB", "MB", "GB"]
    while kib >= 1024 and len(units) > 1:
        kib, units = kib // 1024, units[1:]
    return f"{kib}{units[0]}"


def _with_pressure(found: dict[str, Any], group: Cgroup, name: str) -> dict[str, Any]:
    pressure = _pressure(f"{group.unified}/{name}.pressure") if group.unified else None
    return {**found, "psi": pressure} if pressure else found


def _pressure(path: str) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for kind, rest in parse_keyed(read_text(path)).items():
        pairs = dict(word.partition("=")[::2] for word in rest.split())
        averages = {key: float(pairs.get(key, 0)) for key in ("avg10", "avg60", "avg300")}
        found[kind] = {**averages, "total": int(pairs.get("total", 0))}
    return found or None


def interfaces(pid: int) -> list[dict[str, Any]] | None:
    """Return the counters of a process's network interfaces but loopback; None where they are this process's own."""
    try:
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return None
    except OSError:
        return None
    found = []
    for line in (read_text(f"/proc/{pid}/net/dev") or "").splitlines():
        name, colon, numbers = line.partition(":")
        if colon and name.strip() != "lo":
            words = numbers.split()
            found.append({"Name": name.strip(), **{key: int(words[at]) for key, at in _NET_COLUMNS.items()}})
    return found


def _number(text: str | None) -> int:
    return parse_amount(text) or 0
