"""linux.resources in cgroup v1 files.

Documentation/scheduler/sched-bwc.rst, sched-rt-group.rst; admin-guide/cgroup-v1/{cpusets,memory,pids,
blkio-controller,hugetlb,net_cls,net_prio,rdma}.rst. 0 means "not set" where runc has it so: shares, quotas,
periods, memory, weights, classID.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from backends.errors import Unsupported
from backends.kernel.cgroup_file import parse_amount, read_text
from backends.oci.resource_steps import SetResource, SetShares, SetTogether, SetWeight

Resource = SetResource | SetTogether
_THROTTLES = {
    "throttleReadBpsDevice": "read_bps_device",
    "throttleWriteBpsDevice": "write_bps_device",
    "throttleReadIOPSDevice": "read_iops_device",
    "throttleWriteIOPSDevice": "write_iops_device",
}


def cpu(directory: str, wanted: Mapping[str, Any], is_new: bool) -> list[Resource]:
    """cpu.shares, cpu.idle, cpu.cfs_* and cpu.rt_*."""

    def write(file: str, value: object, name: str, meaning: str = "", may_lack: bool = False) -> SetResource:
        return SetResource(f"{directory}/{file}", str(value), meaning, None, "", f"cpu.{name}", may_lack, is_new)

    weight: list[Resource] = []
    if wanted.get("shares"):
        text = str(wanted["shares"])
        weight.append(SetShares(f"{directory}/cpu.shares", text, "CPU shares", None, "", "cpu.shares", False, is_new))
    if wanted.get("idle") is not None:
        idle = write("cpu.idle", wanted["idle"], "idle", "idle scheduling", wanted["idle"] == 0)
        # The kernel takes no shares while a group is idle.
        weight = [*weight, idle] if wanted["idle"] else [idle, *weight]
    return [*weight, *_bandwidth(wanted, write, is_new), *_realtime(directory, wanted, write)]


def _bandwidth(wanted: Mapping[str, Any], write: Any, is_new: bool) -> list[Resource]:
    """Period, burst and quota: the kernel checks each against the others and the group above at each write.

    Without a quota it takes any period and burst, so a quota that is there is lifted for that moment.
    """
    quota, period, burst = wanted.get("quota") or 0, wanted.get("period") or 0, wanted.get("burst")
    writes = []
    if quota and (period or burst is not None) and not is_new:
        writes.append(write("cpu.cfs_quota_us", -1, "quota", "no CPU quota while the period changes"))
    if period:
        writes.append(write("cpu.cfs_period_us", period, "period", "enforcement period"))
    if burst is not None:
        writes.append(write("cpu.cfs_burst_us", burst, "burst", "CPU burst", may_lack=burst == 0))
    if quota:
        writes.append(write("cpu.cfs_quota_us", max(quota, -1), "quota", "CPU quota"))
    return [SetTogether(tuple(writes))] if len(writes) > 1 else writes


def _realtime(directory: str, wanted: Mapping[str, Any], write: Any) -> list[Resource]:
    """Runtime must never exceed the period, so whichever makes room goes first."""
    runtime, period = wanted.get("realtimeRuntime") or 0, wanted.get("realtimePeriod") or 0
    writes = []
    if period:
        writes.append(write("cpu.rt_period_us", period, "realtimePeriod", "real-time period"))
    if runtime:
        writes.append(write("cpu.rt_runtime_us", runtime, "realtimeRuntime", "real-time runtime"))
    if len(writes) == 2:
        old = parse_amount(read_text(f"{directory}/cpu.rt_period_us")) or 1_000_000
        writes = writes if period >= old else writes[::-1]
        return [SetTogether(tuple(writes))]
    return list(writes)


def cpuset(directory: str, wanted: Mapping[str, Any], is_new: bool) -> list[Resource]:
    """cpuset.cpus and cpuset.mems."""
    return [
        SetResource(f"{directory}/cpuset.{name}", wanted[name], meaning, None, "", f"cpu.{name}", False, is_new)
        for name, meaning in (("cpus", "CPUs"), ("mems", "memory nodes"))
        if wanted.get(name)
    ]


def memory(directory: str, wanted: Mapping[str, Any], is_new: bool) -> list[Resource]:
    """memory.limit_in_bytes and its fellows."""

    def write(file: str, value: int, name: str, meaning: str = "", may_lack: bool = False) -> SetResource:
        path = f"{directory}/memory.{file}"
        return SetResource(path, str(value), meaning, None, "", f"memory.{name}", may_lack, is_new)

    steps: list[Resource] = _limits(directory, wanted, write, is_new)
    if wanted.get("reservation"):
        steps.append(write("soft_limit_in_bytes", wanted["reservation"], "reservation", "memory reservation"))
    if wanted.get("kernelTCP"):
        steps.append(write("kmem.tcp.limit_in_bytes", wanted["kernelTCP"], "kernelTCP", "memory of TCP buffers", True))
    if wanted.get("disableOOMKiller") is not None and (wanted["disableOOMKiller"] or not is_new):
        steps.append(write("oom_control", int(wanted["disableOOMKiller"]), "disableOOMKiller", "OOM killer off"))
    if wanted.get("swappiness") is not None:
        steps.append(write("swappiness", wanted["swappiness"], "swappiness"))
    if wanted.get("useHierarchy") is not None:
        steps += _hierarchy(directory, wanted["useHierarchy"], write)
    return steps


def _limits(directory: str, wanted: Mapping[str, Any], write: Any, is_new: bool) -> list[Resource]:
    """The limit, and that of memory and swap together, which the kernel never lets fall below it."""
    limit, both = wanted.get("limit") or 0, wanted.get("swap") or 0
    if limit == -1 and not both and os.path.exists(f"{directory}/memory.memsw.limit_in_bytes"):
        both = -1
    hard = [write("limit_in_bytes", limit, "limit", "memory limit")] if limit else []
    total = []
    if both:
        total = [write("memsw.limit_in_bytes", both, "swap", "limit of memory and swap", may_lack=both < 0)]
    if hard and total:
        now = None if is_new else parse_amount(read_text(f"{directory}/memory.limit_in_bytes"))
        raising = both < 0 or (now is not None and now < both)
        return [SetTogether(tuple([*total, *hard] if raising else [*hard, *total]))]
    return [*hard, *total]


def _hierarchy(directory: str, wanted: bool, write: Any) -> list[Resource]:
    now = read_text(f"{directory}/memory.use_hierarchy")
    if now is not None and bool(parse_amount(now)) == wanted:
        return []
    if not wanted:
        raise Unsupported("linux.resources.memory.useHierarchy: Linux counts memory hierarchically since 5.11")
    return [write("use_hierarchy", 1, "useHierarchy", may_lack=True)]


def pids(directory: str, wanted: Mapping[str, Any], is_new: bool) -> list[Resource]:
    """pids.max: a negative limit is none, and 0 is 1, as nothing runs with less."""
    limit = wanted.get("limit")
    if limit is None:
        return []
    text = "max" if limit < 0 else str(max(limit, 1))
    return [SetResource(f"{directory}/pids.max", text, "task limit", None, "", "pids.limit", limit < 0, is_new)]


def block_io(directory: str, wanted: Mapping[str, Any], is_new: bool) -> list[Resource]:
    """blkio.bfq.weight (or blkio.weight of old), blkio.leaf_weight, blkio.throttle.*."""

    def write(file: str, text: str, name: str, device: str | None = None) -> SetResource:
        lifted = f"{device} 0" if device else ""
        return SetResource(f"{directory}/blkio.{file}", text, "", device, lifted, f"blockIO.{name}", False, is_new)

    def weigh(file: str, text: str, name: str, device: str | None = None) -> SetResource:
        paths = (f"{directory}/blkio.bfq.{file}", f"{directory}/blkio.{file}")
        return SetWeight(paths[0], text, "", device, "", f"blockIO.{name}", False, is_new, paths[1], text)

    steps: list[Resource] = []
    if wanted.get("weight"):
        steps.append(weigh("weight", str(wanted["weight"]), "weight"))
    if wanted.get("leafWeight"):
        steps.append(write("leaf_weight", str(wanted["leafWeight"]), "leafWeight"))
    for device, entry in devices(wanted.get("weightDevice")):
        if entry.get("weight"):
            steps.append(weigh("weight_device", f"{device} {entry['weight']}", "weightDevice", device))
        if entry.get("leafWeight"):
            steps.append(write("leaf_weight_device", f"{device} {entry['leafWeight']}", "weightDevice", device))
    for name, file in _THROTTLES.items():
        for device, entry in devices(wanted.get(name)):
            steps.append(write(f"throttle.{file}", f"{device} {entry['rate']}", name, device))
    return steps


def devices(entries: list[dict[str, Any]] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return ("MAJOR:MINOR", entry) of a list of block devices, the last entry of each only."""
    yield from {f"{entry['major']}:{entry['minor']}": entry for entry in entries or ()}.items()


def huge_pages(
    directory: str, wanted: list[dict[str, Any]], is_new: bool, suffix: str = "limit_in_bytes"
) -> list[Resource]:
    """hugetlb.SIZE.limit_in_bytes and, where the kernel has it, the same for reservations."""
    steps: list[Resource] = []
    for entry in wanted:
        for kind in ("", "rsvd."):
            path = f"{directory}/hugetlb.{entry['pageSize']}.{kind}{suffix}"
            steps.append(SetResource(path, str(entry["limit"]), "", None, "", "hugepageLimits", bool(kind), is_new))
    return steps


def rdma(directory: str, wanted: Mapping[str, Mapping[str, int]], is_new: bool) -> list[Resource]:
    """rdma.max, a line a device; the same in v1 and v2."""
    steps: list[Resource] = []
    for device, entry in wanted.items():
        keys = (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
        words = [f"{key}={entry[name]}" for name, key in keys if entry.get(name) is not None]
        if words:
            text = " ".join((device, *words))
            lifted = f"{device} hca_handle=max hca_object=max"
            steps.append(SetResource(f"{directory}/rdma.max", text, "", device, lifted, "rdma", False, is_new))
    return steps


def net_cls(directory: str, wanted: Mapping[str, Any], is_new: bool) -> list[Resource]:
    """net_cls.classid."""
    if not wanted.get("classID"):
        return []
    path = f"{directory}/net_cls.classid"
    return [SetResource(path, str(wanted["classID"]), "", None, "", "network.classID", False, is_new)]


def net_prio(directory: str, wanted: Mapping[str, Any], is_new: bool) -> list[Resource]:
    """net_prio.ifpriomap, a line an interface."""
    path = f"{directory}/net_prio.ifpriomap"
    return [
        SetResource(path, f"{entry['name']} {entry['priority']}", "", entry["name"], f"{entry['name']} 0",
                    "network.priorities", False, is_new)
        for entry in wanted.get("priorities") or ()
    ]  # fmt: skip
