"""linux.resources in cgroup v2 files (admin-guide/cgroup-v2.rst), with runc's conversions of v1's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.errors import Unsupported
from backends.kernel import cgroup_values
from backends.kernel.cgroup_file import parse_amount, read_text
from backends.oci import resources1
from backends.oci.errors import ConfigInvalid, OciError
from backends.oci.resource_steps import SetResource, SetTogether, SetWeight

Resource = SetResource | SetTogether
_DEFAULT_PERIOD = 100_000
_THROTTLES = {
    "throttleReadBpsDevice": "rbps",
    "throttleWriteBpsDevice": "wbps",
    "throttleReadIOPSDevice": "riops",
    "throttleWriteIOPSDevice": "wiops",
}


def cpu(directory: str, wanted: Mapping[str, Any], is_new: bool) -> list[Resource]:
    """cpu.weight, cpu.idle, cpu.max and cpu.max.burst."""

    def write(file: str, value: object, name: str, meaning: str = "", may_lack: bool = False) -> SetResource:
        return SetResource(f"{directory}/{file}", str(value), meaning, None, "", f"cpu.{name}", may_lack, is_new)

    for name in ("realtimeRuntime", "realtimePeriod"):
        if wanted.get(name):
            raise Unsupported(f"linux.resources.cpu.{name}: cgroup v2 has no limit of real-time CPU")
    steps: list[Resource] = []
    if wanted.get("shares"):
        weight = cgroup_values.shares_to_weight(wanted["shares"])
        steps.append(write("cpu.weight", weight, "shares", f"CPU shares {wanted['shares']}"))
    if wanted.get("idle") is not None:
        idle = write("cpu.idle", wanted["idle"], "idle", "idle scheduling", wanted["idle"] == 0)
        # The kernel takes no weight while a group is idle.
        steps = [*steps, idle] if wanted["idle"] else [idle, *steps]
    return [*steps, *_bandwidth(directory, wanted, write, is_new)]


def _bandwidth(directory: str, wanted: Mapping[str, Any], write: Any, is_new: bool) -> list[Resource]:
    """cpu.max holds quota and period: the half that is not given stays. A burst must fit below the quota."""
    quota, period, burst = wanted.get("quota") or 0, wanted.get("period") or 0, wanted.get("burst")
    now = (("" if is_new else read_text(f"{directory}/cpu.max")) or f"max {_DEFAULT_PERIOD}").split()
    writes = []
    if quota or period:
        text = f"{_quota(quota, now[0])} {period or now[-1]}"
        name = "quota" if quota else "period"
        if burst is not None and not is_new:
            writes.append(write("cpu.max", f"max {period or now[-1]}", name, "no CPU quota while the burst changes"))
        writes.append(write("cpu.max", text, name, "CPU quota and period"))
    if burst is not None:
        step = write("cpu.max.burst", burst, "burst", "CPU burst", may_lack=burst == 0)
        writes.insert(len(writes) - 1 if writes else 0, step)
    return [SetTogether(tuple(writes))] if len(writes) > 1 else writes


def _quota(quota: int, now: str) -> str:
    return now if not quota else "max" if quota < 0 else str(quota)


def cpuset(directory: str, wanted: Mapping[str, Any], is_new: bool) -> list[Resource]:
    """cpuset.cpus and cpuset.mems: as in v1."""
    return resources1.cpuset(directory, wanted, is_new)


def memory(directory: str, wanted: Mapping[str, Any], is_new: bool) -> list[Resource]:
    """memory.max, memory.swap.max (without memory) and memory.low."""

    def write(file: str, value: int, name: str, meaning: str, may_lack: bool = False) -> SetResource:
        text = "max" if value < 0 else str(value)
        return SetResource(f"{directory}/{file}", text, meaning, None, "", f"memory.{name}", may_lack, is_new)

    _refuse_what_v2_lacks(wanted)
    limit = wanted.get("limit") or 0
    if wanted.get("checkBeforeUpdate"):
        check_use(directory, wanted)
    steps: list[Resource] = []
    both = wanted.get("swap") or 0
    swap = swap_alone(both, limit or (_memory_now(directory) if both else 0))
    if swap is not None:
        steps.append(write("memory.swap.max", swap, "swap", "swap limit", may_lack=swap <= 0))
    if limit:
        steps.append(write("memory.max", limit, "limit", "memory limit"))
    if wanted.get("reservation"):
        steps.append(write("memory.low", wanted["reservation"], "reservation", "memory reservation"))
    return steps


def _refuse_what_v2_lacks(wanted: Mapping[str, Any]) -> None:
    if wanted.get("swappiness") is not None:
        raise Unsupported("linux.resources.memory.swappiness: cannot set memory swappiness with cgroupv2")
    if wanted.get("disableOOMKiller"):
        raise Unsupported("linux.resources.memory.disableOOMKiller: cannot disable OOM killer with cgroupv2")
    if wanted.get("useHierarchy") is False:
        raise Unsupported("linux.resources.memory.useHierarchy: cgroup v2 always counts memory hierarchically")


def _memory_now(directory: str) -> int:
    """Return memory.max, 0 if there is none: an update may name swap alone."""
    return parse_amount(read_text(f"{directory}/memory.max")) or 0


def swap_alone(both: int, limit: int) -> int | None:
    """Return memory.swap.max for v1's sum of memory and swap: -1 is none, None leaves it as it is.

    Raises ConfigInvalid with runc's words.
    """
    if limit == -1 and both == 0:
        return -1
    if both == 0:
        return None
    if both < 0 or limit == -1:
        return both
    if limit == 0:
        raise ConfigInvalid("unable to set swap limit without memory limit")
    if limit < 0:
        raise ConfigInvalid(f"invalid memory value: {limit}")
    if both < limit:
        raise ConfigInvalid("memory+swap limit should be >= memory limit")
    return both - limit


def check_use(directory: str, wanted: Mapping[str, Any]) -> None:
    """Refuse limits below present use, which v2 would answer with the OOM killer. Raises OciError, runc's words."""
    usage = parse_amount(read_text(f"{directory}/memory.current"))
    for name, said in (("swap", "memory+swap"), ("limit", "memory")):
        limit = wanted.get(name) or 0
        if usage is not None and 0 < limit <= usage:
            raise OciError(f"rejecting {said} limit {limit} <= usage {usage}")


def pids(directory: str, wanted: Mapping[str, Any], is_new: bool) -> list[Resource]:
    """pids.max: as in v1."""
    return resources1.pids(directory, wanted, is_new)


def block_io(directory: str, wanted: Mapping[str, Any], is_new: bool) -> list[Resource]:
    """io.bfq.weight or io.weight, and io.max."""

    def write(file: str, text: str, name: str, device: str | None = None, lifted: str = "") -> SetResource:
        return SetResource(f"{directory}/{file}", text, "", device, lifted, f"blockIO.{name}", False, is_new)

    def weigh(weight: int, name: str, device: str | None = None) -> SetResource:
        start, lifted = (f"{device} ", f"{device} default") if device else ("", "")
        paths = (f"{directory}/io.bfq.weight", f"{directory}/io.weight")
        texts = (f"{start}{weight}", f"{start}{io_weight(weight)}")
        name = f"blockIO.{name}"
        return SetWeight(paths[0], texts[0], "", device, lifted, name, False, is_new, paths[1], texts[1])

    if wanted.get("leafWeight"):
        raise Unsupported("linux.resources.blockIO.leafWeight: cgroup v2 has no weight of a group's own processes")
    steps: list[Resource] = []
    if wanted.get("weight"):
        steps.append(weigh(wanted["weight"], "weight"))
    for device, entry in resources1.devices(wanted.get("weightDevice")):
        if entry.get("leafWeight"):
            raise Unsupported("linux.resources.blockIO.weightDevice.leafWeight: cgroup v2 has no such weight")
        if entry.get("weight"):
            steps.append(weigh(entry["weight"], "weightDevice", device))
    for name, key in _THROTTLES.items():
        for device, entry in resources1.devices(wanted.get(name)):
            text = f"{device} {key}={entry['rate'] or 'max'}"
            steps.append(write("io.max", text, name, device, f"{device} {key}=max"))
    return steps


def io_weight(weight: int) -> int:
    """Convert v1's 10 to 1000 to v2's 1 to 10000, as runc does."""
    return 1 + (weight - 10) * 9999 // 990


def huge_pages(directory: str, wanted: list[dict[str, Any]], is_new: bool) -> list[Resource]:
    """hugetlb.SIZE.max and, where the kernel has it, hugetlb.SIZE.rsvd.max."""
    return resources1.huge_pages(directory, wanted, is_new, "max")


def rdma(directory: str, wanted: Mapping[str, Mapping[str, int]], is_new: bool) -> list[Resource]:
    """rdma.max: as in v1."""
    return resources1.rdma(directory, wanted, is_new)


def unified(directory: str, wanted: Mapping[str, str], is_new: bool) -> list[Resource]:
    """Files of the group by their names; a text of several lines is written line by line."""
    steps: list[Resource] = []
    for name, text in wanted.items():
        lines = text.splitlines() or [""]
        keyed = len(lines) > 1
        for line in lines:
            key = line.partition(" ")[0] if keyed else None
            path = f"{directory}/{name}"
            steps.append(SetResource(path, line, "", key, "", f'unified["{name}"]', False, is_new or keyed))
    return steps
