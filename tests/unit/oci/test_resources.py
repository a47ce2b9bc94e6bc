"""Resources of config.json turned into what the kernel takes: conversions, lists of devices, places."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import Unsupported, UsageError
from backends.kernel.cgroup import CgroupHost, detect
from backends.kernel.cgroup_values import shares_to_weight
from backends.kernel.device_filter import DeviceRule, filter_of, parse_list
from backends.oci import cgroups, resources, resources2, stats1
from backends.oci.errors import ConfigInvalid
from backends.oci.resource_steps import SetTogether
from backends.oci.spelling import spelled


def mount_line(kind: str, at: Path, options: str = "rw") -> str:
    return f"31 23 0:28 / {at} rw shared:9 - {kind} {kind} {options}\n"


@pytest.fixture
def v1_host(tmp_path: Path) -> CgroupHost:
    names = ("cpu,cpuacct", "cpuset", "memory", "pids", "blkio", "devices", "hugetlb", "net_cls,net_prio", "rdma")
    return detect("".join(mount_line("cgroup", tmp_path / name, f"rw,{name}") for name in names))


@pytest.fixture
def v2_host(tmp_path: Path) -> CgroupHost:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma misc\n")
    return detect(mount_line("cgroup2", tmp_path))


def writes(host: CgroupHost, wanted: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return (file, text) of each write to a new group."""
    found = []
    for step in resources.steps(host.group("a/b"), wanted):
        for part in step.steps if isinstance(step, SetTogether) else (step,):
            found.append((Path(part.path).name, part.text))  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    "shares, weight", [(2, 1), (100, 17), (1024, 100), (3333, 256), (262_144, 10_000), (999_999, 10_000)]
)
def test_shares_become_a_weight_by_the_curve_through_both_defaults(shares: int, weight: int) -> None:
    assert shares_to_weight(shares) == weight


@pytest.mark.parametrize("weight, converted", [(10, 1), (750, 7475), (1000, 10_000)])
def test_block_weights_become_those_of_v2(weight: int, converted: int) -> None:
    assert resources2.io_weight(weight) == converted


@pytest.mark.parametrize(
    "both, limit, alone",
    [(0, 100, None), (-1, 100, -1), (300, 100, 200), (100, 100, 0), (0, -1, -1), (300, -1, 300), (0, 0, None)],
)
def test_memory_and_swap_together_become_swap_alone(both: int, limit: int, alone: int | None) -> None:
    assert resources2.swap_alone(both, limit) == alone


@pytest.mark.parametrize(
    "both, limit, said",
    [
        (300, 0, "unable to set swap limit without memory limit"),
        (99, 100, "memory+swap limit should be >= memory limit"),
    ],
)
def test_swap_that_cannot_be_told_from_memory_is_refused_in_runc_s_words(both: int, limit: int, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=said.replace("+", r"\+")):
        resources2.swap_alone(both, limit)


def test_every_field_has_its_file_on_v1(v1_host: CgroupHost) -> None:
    wanted = {
        "cpu": {"shares": 512, "quota": 5000, "period": 50_000, "burst": 10, "idle": 1, "realtimeRuntime": 7,
                "realtimePeriod": 1_000_000, "cpus": "0-1", "mems": "0"},
        "memory": {"limit": 1000, "swap": 2000, "reservation": 500, "kernel": 9, "kernelTCP": 8, "swappiness": 60,
                   "disableOOMKiller": True, "useHierarchy": True},
        "pids": {"limit": 5},
        "blockIO": {"weight": 100, "leafWeight": 20,
                    "weightDevice": [{"major": 8, "minor": 0, "weight": 7, "leafWeight": 6}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                    "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                    "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4}],
        "network": {"classID": 1_048_577, "priorities": [{"name": "eth0", "priority": 5}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 1}},
    }  # fmt: skip

    assert writes(v1_host, wanted) == [
        ("cpu.shares", "512"), ("cpu.idle", "1"),
        ("cpu.cfs_period_us", "50000"), ("cpu.cfs_burst_us", "10"), ("cpu.cfs_quota_us", "5000"),
        ("cpu.rt_period_us", "1000000"), ("cpu.rt_runtime_us", "7"),
        ("cpuset.cpus", "0-1"), ("cpuset.mems", "0"),
        ("memory.limit_in_bytes", "1000"), ("memory.memsw.limit_in_bytes", "2000"),
        ("memory.soft_limit_in_bytes", "500"), ("memory.kmem.tcp.limit_in_bytes", "8"),
        ("memory.oom_control", "1"), ("memory.swappiness", "60"), ("memory.use_hierarchy", "1"),
        ("pids.max", "5"),
        ("blkio.bfq.weight", "100"), ("blkio.leaf_weight", "20"),
        ("blkio.bfq.weight_device", "8:0 7"), ("blkio.leaf_weight_device", "8:0 6"),
        ("blkio.throttle.read_bps_device", "8:0 1"), ("blkio.throttle.write_bps_device", "8:0 2"),
        ("blkio.throttle.read_iops_device", "8:0 3"), ("blkio.throttle.write_iops_device", "8:0 4"),
        ("hugetlb.2MB.limit_in_bytes", "4"), ("hugetlb.2MB.rsvd.limit_in_bytes", "4"),
        ("rdma.max", "mlx5_1 hca_handle=3 hca_object=1"),
        ("net_cls.classid", "1048577"), ("net_prio.ifpriomap", "eth0 5"),
    ]  # fmt: skip


def test_every_field_has_its_file_on_v2(v2_host: CgroupHost) -> None:
    wanted = {
        "cpu": {"shares": 1024, "quota": 5000, "period": 50_000, "burst": 10, "idle": 0, "cpus": "0-1", "mems": "0"},
        "memory": {"limit": 1000, "swap": 3000, "reservation": 500, "kernel": 9, "disableOOMKiller": False},
        "pids": {"limit": -1},
        "blockIO": {"weight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 7}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4}],
        "rdma": {"mlx5_1": {"hcaObjects": 1}},
        "unified": {"memory.high": "900", "io.max": "8:0 wbps=5\n8:16 wbps=6\n"},
    }  # fmt: skip

    assert writes(v2_host, wanted) == [
        ("cpu.idle", "0"), ("cpu.weight", "100"), ("cpu.max.burst", "10"), ("cpu.max", "5000 50000"),
        ("cpuset.cpus", "0-1"), ("cpuset.mems", "0"),
        ("memory.swap.max", "2000"), ("memory.max", "1000"), ("memory.low", "500"),
        ("pids.max", "max"),
        ("io.bfq.weight", "10"), ("io.bfq.weight", "8:0 7"), ("io.max", "8:0 rbps=1"), ("io.max", "8:0 wiops=max"),
        ("hugetlb.2MB.max", "4"), ("hugetlb.2MB.rsvd.max", "4"), ("rdma.max", "mlx5_1 hca_object=1"),
        ("memory.high", "900"), ("io.max", "8:0 wbps=5"), ("io.max", "8:16 wbps=6"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wanted",
    [
        {"cpu": {"realtimeRuntime": 5}},
        {"memory": {"swappiness": 10}},
        {"memory": {"disableOOMKiller": True}},
        {"memory": {"useHierarchy": False}},
        {"blockIO": {"leafWeight": 10}},
        {"network": {"classID": 5}},
        {"network": {"priorities": [{"name": "lo", "priority": 1}]}},
    ],
)
def test_what_v2_cannot_do_is_refused_by_its_name(v2_host: CgroupHost, wanted: dict[str, dict[str, object]]) -> None:
    part = next(iter(wanted))

    with pytest.raises(Unsupported, match=rf"linux\.resources\.{part}"):
        resources.steps(v2_host.group("a"), wanted)


def test_zeros_of_old_docker_and_empty_parts_change_nothing(v1_host: CgroupHost, v2_host: CgroupHost) -> None:
    wanted: dict[str, object] = {
        "cpu": {"shares": 0},
        "memory": {"swappiness": (1 << 64) - 1},
        "blockIO": {"weight": 0},
        "pids": {},
        "network": {},
        "hugepageLimits": [],
        "devices": None,
        "unified": None,
    }

    assert writes(v1_host, wanted) == []
    assert writes(v2_host, wanted) == []


def test_a_task_limit_of_0_means_none_to_those_who_wrote_it_before_1_2() -> None:
    part = {"linux": {"resources": {"pids": {"limit": 0}}}}

    assert resources.of({"ociVersion": "1.0.2-dev", **part})["pids"] == {}
    assert resources.of({"ociVersion": "1.2.0", **part})["pids"] == {"limit": 0}


def test_names_are_taken_in_any_case_but_not_those_of_files_and_devices() -> None:
    given = {"CPU": {"Cpus": "1"}, "hugepagelimits": [{"Pagesize": "2MB", "LIMIT": 1}], "unified": {"Memory": "x"}}

    found = spelled(given)

    expected = {"cpu": {"cpus": "1"}, "hugepageLimits": [{"pageSize": "2MB", "limit": 1}], "unified": {"Memory": "x"}}
    assert found == expected


def test_the_unified_part_is_refused_on_v1_in_runc_s_words(v1_host: CgroupHost) -> None:
    with pytest.raises(ConfigInvalid, match="invalid configuration: cannot use unified on cgroup v1"):
        resources.steps(v1_host.group("a"), {"unified": {"memory.min": "1"}})


@pytest.mark.parametrize("name, said", [("../x.y", "no slashes"), ("memory", "CONTROLLER.PARAMETER"),
                                            ("net.x", "controller \"net\" not available")])  # fmt: skip
def test_names_that_are_no_files_of_the_group_are_refused(v2_host: CgroupHost, name: str, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=said):
        resources.steps(v2_host.group("a"), {"unified": {name: "1"}})


def entry(allow: bool, kind: str, major: int | None, minor: int | None, access: str) -> dict[str, object]:
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


def test_a_list_of_devices_is_read_in_order() -> None:
    rules = resources.device_rules([
        {"allow": False, "access": "rwm"},
        entry(True, "c", 1, 11, "r"), entry(True, "c", 1, 11, "w"), entry(True, "b", 8, None, "rwm"),
        entry(False, "c", 1, 11, "w"), entry(True, "c", -1, -1, "m"),
    ])  # fmt: skip

    found = filter_of(rules)

    assert [str(rule) for rule in found.rules()] == ["c 1:11 r", "b 8:* rwm", "c *:* m"]
    assert not found.allows_all


def test_an_entry_for_all_devices_forgets_what_came_before() -> None:
    found = filter_of(resources.device_rules([entry(True, "c", 1, 3, "rwm"), entry(True, "a", None, None, "rwm"),
                                              entry(False, "c", 1, 11, "w")]))  # fmt: skip

    assert found.allows_all
    assert [(str(rule), rule.allow) for rule in found.rules()] == [("c 1:11 w", False)]


def test_a_hole_in_a_wildcard_is_refused_as_v1_would_silently_not_make_it() -> None:
    rules = resources.device_rules([entry(True, "c", 1, None, "rwm"), entry(False, "c", 1, 11, "w")])

    with pytest.raises(UsageError, match="punch a hole"):
        filter_of(rules)


@pytest.mark.parametrize(
    "bad", [{"allow": True, "access": ""}, {"allow": True, "access": "rx"}, {"allow": True, "type": "q", "access": "r"}]
)
def test_entries_that_say_nothing_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigInvalid, match=r"linux\.resources\.devices"):
        resources.device_rules([bad])


NUMBER = st.none() | st.integers(0, 3)
RULES = st.lists(
    st.builds(
        DeviceRule, st.sampled_from("cb"), NUMBER, NUMBER,
        st.sets(st.sampled_from("rwm"), min_size=1).map(lambda kinds: "".join(k for k in "rwm" if k in kinds)),
    ),
    max_size=8,
)  # fmt: skip


@given(RULES)
def test_what_v1_lists_reads_back_as_the_same_filter(rules: list[DeviceRule]) -> None:
    wanted = filter_of(rules)

    assert parse_list("".join(f"{rule}\n" for rule in wanted.rules())) == wanted


@pytest.mark.parametrize(
    "path, place",
    [("/docker/abc", "docker/abc"), ("a/b", "a/b"), ("../../etc", "etc"), ("/a/../../b", "b"),
     ("", "innkeeper-oci/web"), ("/./x//y/", "x/y")],
)  # fmt: skip
def test_a_path_never_leads_out_of_the_hierarchies(path: str, place: str) -> None:
    assert cgroups.place({"linux": {"cgroupsPath": path}}, "web") == place


def test_the_top_of_the_hierarchies_is_nobody_s_own() -> None:
    with pytest.raises(ConfigInvalid, match="top of the hierarchies"):
        cgroups.place({"linux": {"cgroupsPath": "/"}}, "web")


def test_systemd_s_form_is_asked_for_and_systemd_itself() -> None:
    with pytest.raises(ConfigInvalid, match='expected cgroupsPath to be of format "slice:prefix:name"'):
        cgroups.place({"linux": {"cgroupsPath": "/a/b"}}, "web", systemd=True)
    with pytest.raises(Unsupported, match="systemd"):
        cgroups.place({"linux": {"cgroupsPath": "system.slice:runc:web"}}, "web", systemd=True)


def test_v1_block_counters_are_read_with_and_without_an_operation(tmp_path: Path) -> None:
    (tmp_path / "blkio.bfq.io_service_bytes_recursive").write_text("Total 0\n")
    (tmp_path / "blkio.throttle.io_service_bytes_recursive").write_text("8:0 Read 12\n8:0 Total 12\nTotal 12\n")
    (tmp_path / "blkio.bfq.time_recursive").write_text("8:16 77\n")

    found = stats1.block_io(str(tmp_path))

    assert found["ioServiceBytesRecursive"][0] == {"major": 8, "minor": 0, "op": "Read", "value": 12}
    assert found["ioTimeRecursive"] == [{"major": 8, "minor": 16, "value": 77}]
