"""linux.resources in force on this kernel, whatever its cgroups are; on a hybrid host also as v1 alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.errors import InnkeeperError, Unsupported
from backends.kernel import block
from backends.kernel.cgroup import Cgroup, CgroupHost
from backends.oci import stats
from backends.oci.errors import ConfigInvalid, OciError
from tests.tools.groups import MIB, bandwidth, below_another, host_of, is_v2, make, put, read, run_in, views
from tests.tools.needs import needs

pytestmark = [needs("root", "cgroup.cpu", "cgroup.memory", "cgroup.pids"), pytest.mark.timeout(60)]


@pytest.fixture(params=views())
def host(request: pytest.FixtureRequest) -> CgroupHost:
    return host_of(request.param)


@pytest.fixture
def group(host: CgroupHost) -> Iterator[Cgroup]:
    yield from below_another(host)


# ── CPU ─────────────────────────────────────────────────────────────────────────────────────────────


def test_resources_of_a_new_group_are_in_force_and_read_back_as_limits(group: Cgroup) -> None:
    make(group, {"memory": {"limit": 32 * MIB, "reservation": 24 * MIB}, "pids": {"limit": 20},
                 "cpu": {"shares": 2048, "quota": 500_000, "period": 1_000_000}})  # fmt: skip

    assert bandwidth(group) == ("500000", "1000000")
    assert read(group, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(24 * MIB)
    limits = group.limits()
    assert (limits.cpus, limits.memory_bytes, limits.pids) == (0.5, 32 * MIB, 20)
    assert limits.cpu_weight == 174


@pytest.mark.parametrize(
    "asked, then",
    [({"period": 50_000}, ("-1", "50000")), ({"quota": 5000}, ("5000", "100000")),
     ({"quota": -1, "period": 10_000}, ("-1", "10000"))],
)  # fmt: skip
def test_quota_and_period_can_be_given_alone(group: Cgroup, asked: dict[str, int], then: tuple[str, str]) -> None:
    make(group, {"cpu": asked})

    assert bandwidth(group) == then


def test_half_of_quota_and_period_can_be_changed(group: Cgroup) -> None:
    make(group, {"cpu": {"quota": 500_000, "period": 1_000_000}})

    for asked, then in (
        ({"period": 900_000}, ("500000", "900000")),
        ({"quota": 600_000}, ("600000", "900000")),
        ({"quota": -1}, ("-1", "900000")),
        ({"quota": 3000, "period": 10_000}, ("3000", "10000")),
    ):
        put(group, {"cpu": asked})
        assert bandwidth(group) == then


def test_a_period_that_no_kernel_takes_is_refused_by_its_name(group: Cgroup) -> None:
    with pytest.raises(OciError, match=r"linux\.resources\.cpu\.period: cannot write"):
        make(group, {"cpu": {"period": 100}})


@needs("cgroup1.cpu")
def test_below_a_limited_group_a_lower_quota_in_a_shorter_period_fits_and_a_higher_one_changes_nothing(
    group: Cgroup,
) -> None:
    make(group)
    above = os.path.dirname(group.directory("cpu") or "")
    Path(above, "cpu.cfs_quota_us").write_text("50000")

    put(group, {"cpu": {"quota": 30_000}})
    put(group, {"cpu": {"quota": 3000, "period": 10_000}})
    with pytest.raises(OciError, match=r"linux\.resources\.cpu\.quota"):
        put(group, {"cpu": {"quota": 90_000, "period": 100_000}})

    assert bandwidth(group) == ("3000", "10000")


def test_idle_goes_on_and_off_and_lets_other_changes_be(group: Cgroup) -> None:
    make(group, {"cpu": {"shares": 512, "idle": 1}})
    if not Path(group.directory("cpu") or "", "cpu.idle").exists():
        pytest.skip("needs cpu.idle: this kernel has none")

    assert read(group, "cpu", "cpu.idle") == "1"
    put(group, {"cpu": {"period": 10_000}})
    assert read(group, "cpu", "cpu.idle") == "1"
    put(group, {"cpu": {"idle": 0, "shares": 1024}})
    assert read(group, "cpu", "cpu.idle") == "0"
    with pytest.raises(OciError, match=r"linux\.resources\.cpu\.idle"):
        put(group, {"cpu": {"idle": 3}})


def test_a_burst_follows_the_quota_up_and_down(group: Cgroup) -> None:
    make(group, {"cpu": {"quota": 50_000, "burst": 40_000}})

    put(group, {"cpu": {"quota": 20_000, "period": 100_000, "burst": 10_000}})
    assert read(group, "cpu", "cpu.cfs_burst_us", "cpu.max.burst") == "10000"
    put(group, {"cpu": {"quota": 90_000, "burst": 80_000}})
    assert read(group, "cpu", "cpu.cfs_burst_us", "cpu.max.burst") == "80000"
    assert bandwidth(group) == ("90000", "100000")


@needs("cgroup1.cpu")
@pytest.mark.parametrize("shares, said", [(1, "minimum allowed cpu-shares is 2"),
                                              (300_000, "maximum allowed cpu-shares is 262144")])  # fmt: skip
def test_shares_that_the_kernel_would_bend_are_refused(group: Cgroup, shares: int, said: str) -> None:
    with pytest.raises(OciError, match=said):
        make(group, {"cpu": {"shares": shares}})


def test_real_time_is_given_where_the_group_above_has_it_and_refused_by_name_else(group: Cgroup) -> None:
    with pytest.raises(InnkeeperError, match=r"linux\.resources\.cpu\.realtimeRuntime"):
        make(group, {"cpu": {"realtimeRuntime": 500_000}})
    above = os.path.dirname(group.directory("cpu") or "")
    if is_v2(group, "cpu") or not Path(above, "cpu.rt_runtime_us").exists():
        return
    Path(above, "cpu.rt_runtime_us").write_text("100000")

    for period, runtime in ((900_000, 50_000), (10_000, 900), (100_000, 9000)):
        put(group, {"cpu": {"realtimePeriod": period, "realtimeRuntime": runtime}})
        assert read(group, "cpu", "cpu.rt_period_us") == str(period)
        assert read(group, "cpu", "cpu.rt_runtime_us") == str(runtime)


@needs("cgroup.cpuset")
def test_a_group_has_cpus_from_above_until_it_gets_its_own(group: Cgroup) -> None:
    make(group)
    if not is_v2(group, "cpuset"):
        assert read(group, "cpuset", "cpuset.cpus") == read(group.host.top(), "cpuset", "cpuset.cpus")

    put(group, {"cpu": {"cpus": "0", "mems": "0"}})

    assert (read(group, "cpuset", "cpuset.cpus"), read(group, "cpuset", "cpuset.mems")) == ("0", "0")


# ── memory, tasks ───────────────────────────────────────────────────────────────────────────────────


@needs("limit.swap_bytes")
def test_memory_and_swap_go_up_and_down_together(group: Cgroup) -> None:
    make(group, {"memory": {"limit": 40 * MIB, "swap": 50 * MIB}})

    for limit, both in ((30, 50), (60, 80), (20, 20), (100, 120)):
        put(group, {"memory": {"limit": limit * MIB, "swap": both * MIB}})
        swap = both - limit if is_v2(group) else both
        assert read(group, "memory", "memory.limit_in_bytes", "memory.max") == str(limit * MIB)
        assert read(group, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max") == str(swap * MIB)
    put(group, {"memory": {"limit": -1}})
    assert group.limits().memory_bytes is None
    assert group.limits().swap_bytes is None


def test_a_limit_below_what_is_used_is_refused_in_runc_s_words(group: Cgroup) -> None:
    make(group)
    hog = run_in(group, "block = bytearray(48 << 20)\nprint(1, flush=True)\ninput()")
    assert hog.stdout is not None
    hog.stdout.readline()
    if is_v2(group):
        said, wanted = "rejecting memory limit", {"limit": 4 * MIB, "checkBeforeUpdate": True}
    else:
        said, wanted = (
            r"unable to set memory limit to 4194304 \(current usage: \d+, peak usage: \d+\)",
            {"limit": 4 * MIB},
        )

    with pytest.raises(OciError, match=said):
        put(group, {"memory": wanted})

    assert hog.poll() is None
    hog.communicate("\n")


def test_what_only_v1_has_of_memory_is_set_there_and_refused_on_v2(group: Cgroup) -> None:
    make(group)
    for wanted, file, text in (({"swappiness": 17}, "swappiness", "17"),
                               ({"disableOOMKiller": True}, "oom_control", "oom_kill_disable 1")):  # fmt: skip
        if is_v2(group):
            with pytest.raises(Unsupported, match="cgroupv2"):
                put(group, {"memory": wanted})
        else:
            put(group, {"memory": wanted})
            assert text in read(group, "memory", f"memory.{file}")
    put(group, {"memory": {"useHierarchy": True, "disableOOMKiller": False}})


@pytest.mark.parametrize("limit, text", [(12_345, "12345"), (0, "1"), (-1, "max")])
def test_a_task_limit_of_0_is_1_and_a_negative_one_is_none(group: Cgroup, limit: int, text: str) -> None:
    make(group, {"pids": {"limit": limit}})

    assert read(group, "pids", "pids.max") == text


# ── the rest of them ────────────────────────────────────────────────────────────────────────────────


@needs("cgroup.io", "disk")
def test_disks_are_held_back_at_what_was_asked(group: Cgroup) -> None:
    major, minor = map(int, block.whole_disks()[0].number.split(":"))
    make(group)
    names = ("throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice")

    for rates in ((10 * MIB, 9 * MIB, 1000, 900), (5 * MIB, 0, 500, 0)):
        entries = {name: [{"major": major, "minor": minor, "rate": 7 * MIB},
                          {"major": major, "minor": minor, "rate": rate}]
                   for name, rate in zip(names, rates, strict=True)}  # fmt: skip
        put(group, {"blockIO": entries})
        limits = group.limits()
        sizes = (limits.io_read_bytes_per_s, limits.io_write_bytes_per_s)
        found = (*sizes, limits.io_read_ops_per_s, limits.io_write_ops_per_s)
        if not limits.io_devices:
            assert found == tuple(rate or None for rate in rates)


@needs("cgroup.io")
def test_a_weight_for_disks_is_set_or_refused_by_its_name(group: Cgroup) -> None:
    make(group)
    seat = group.seat("io")
    assert seat is not None
    has_any = any(Path(seat[1], name).exists() for name in ("blkio.bfq.weight", "io.bfq.weight", "io.weight"))

    if not has_any:
        with pytest.raises(Unsupported, match=r"linux\.resources\.blockIO\.weight"):
            put(group, {"blockIO": {"weight": 333}})
        return
    put(group, {"blockIO": {"weight": 333}})
    texts = [path.read_text() for path in Path(seat[1]).iterdir() if path.name.endswith("weight")]
    assert any("333" in text or "3263" in text for text in texts)


def test_what_this_host_has_no_controller_for_is_refused_by_its_name(group: Cgroup) -> None:
    make(group)
    asked: dict[str, dict[str, Any]] = {
        "net_cls": {"network": {"classID": 5}},
        "rdma": {"rdma": {"mlx5_1": {"hcaObjects": 1}}},
        "hugetlb": {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]},
    }
    for controller, wanted in asked.items():
        if group.host.hierarchy(controller) is None:
            with pytest.raises(Unsupported, match=rf"linux\.resources\.{next(iter(wanted))}"):
                put(group, wanted)


def test_huge_pages_are_limited_where_the_kernel_can(group: Cgroup) -> None:
    sizes = stats.huge_page_sizes()
    if group.host.hierarchy("hugetlb") is None or not sizes:
        pytest.skip("needs hugetlb: this host has no such controller, or no huge pages")

    make(group, {"hugepageLimits": [{"pageSize": size, "limit": 0} for size in sizes]})

    for size in sizes:
        assert read(group, "hugetlb", f"hugetlb.{size}.limit_in_bytes", f"hugetlb.{size}.max") == "0"
        assert read(group, "hugetlb", f"hugetlb.{size}.rsvd.limit_in_bytes", f"hugetlb.{size}.rsvd.max") == "0"
    assert sizes[0] in stats.read(group)["hugetlb"]
    with pytest.raises(Unsupported, match=r"linux\.resources\.hugepageLimits"):
        put(group, {"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]})


def test_files_of_the_unified_tree_are_written_where_it_has_them(group: Cgroup) -> None:
    if group.unified is None:
        with pytest.raises(ConfigInvalid, match="cannot use unified on cgroup v1"):
            make(group, {"unified": {"pids.max": "5"}})
        return
    make(group, {"unified": {"cgroup.max.descendants": "7"}})
    assert Path(group.unified, "cgroup.max.descendants").read_text() == "7\n"

    if group.host.mode == "hybrid":
        with pytest.raises(ConfigInvalid, match="invalid configuration: cannot use unified on cgroup v1"):
            put(group, {"unified": {"memory.min": "131072"}})
    else:
        put(group, {"memory": {"limit": 32 * MIB}, "unified": {"memory.max": str(40 * MIB), "memory.min": "131072"}})
        assert read(group, "memory", "memory.max") == str(40 * MIB)
        with pytest.raises(Unsupported, match=r'unified\["memory.nonsense"\]'):
            put(group, {"unified": {"memory.nonsense": "1"}})
