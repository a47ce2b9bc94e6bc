"""Hosts of every cgroup mode, as folders: what is made, handed down and written where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import KernelRefused, Unsupported, UsageError
from backends.kernel import cgroup1, cgroup2, cgroup_values
from backends.kernel.cgroup import CgroupHost, detect
from backends.kernel.cgroup_hierarchy import mounted, path_in
from backends.kernel.cgroup_steps import WriteFile
from backends.model import DeviceIo, Limits

MIB = 1 << 20
V2_CONTROLLERS = "cpuset cpu io memory hugetlb pids rdma misc"


def mount_line(kind: str, at: Path | str, options: str = "rw", root: str = "/") -> str:
    return f"31 23 0:28 {root} {at} rw,nosuid,nodev,noexec,relatime shared:9 - {kind} {kind} {options}\n"


@pytest.fixture
def v2_host(tmp_path: Path) -> CgroupHost:
    """A v2 host with systemd on it."""
    (tmp_path / "cgroup.controllers").write_text(V2_CONTROLLERS + "\n")
    (tmp_path / "cgroup.subtree_control").write_text("memory pids\n")
    return detect(mount_line("cgroup2", tmp_path, "rw,nsdelegate,memory_recursiveprot"))


@pytest.fixture
def v1_host(tmp_path: Path) -> CgroupHost:
    """A v1 host as distributions have it: cpu and cpuacct in one tree, symbolic links beside it."""
    text = ""
    for names in ("cpu,cpuacct", "cpuset", "memory", "pids", "blkio", "freezer", "net_cls,net_prio", "name=systemd"):
        (tmp_path / names).mkdir()
        text += mount_line("cgroup", tmp_path / names, f"rw,xattr,{names}")
    (tmp_path / "memory/memory.memsw.limit_in_bytes").touch()
    (tmp_path / "memory/memory.limit_in_bytes").touch()
    (tmp_path / "cpu,cpuacct/cpu.cfs_quota_us").touch()
    return detect(text)


def test_a_v2_host_is_known_with_its_controllers(v2_host: CgroupHost) -> None:
    assert v2_host.mode == "v2"
    assert v2_host.controllers == frozenset(V2_CONTROLLERS.split())


def test_a_v1_host_is_known_with_its_controllers(v1_host: CgroupHost) -> None:
    assert v1_host.mode == "v1"
    assert {"cpu", "cpuacct", "blkio", "memory"} <= v1_host.controllers
    assert v1_host.hierarchy("net_prio") == v1_host.hierarchy("net_cls")


def test_a_host_with_systemd_on_v1_and_an_empty_unified_tree_is_hybrid(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("\n")
    host = detect(mount_line("cgroup2", tmp_path) + mount_line("cgroup", "/m", "rw,memory"))

    assert host.mode == "hybrid"
    assert host.hierarchy("memory") is not None
    assert host.hierarchy("memory").version == 1  # type: ignore[union-attr]


def test_controllers_can_be_split_over_both_versions(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory pids\n")
    host = detect(mount_line("cgroup2", tmp_path) + mount_line("cgroup", "/c", "rw,cpu,cpuacct"))

    group = host.group("innkeeper/x")

    assert group.directory("cpu") == "/c/innkeeper/x"
    assert group.directory("memory") == f"{tmp_path}/innkeeper/x"


def test_the_mount_below_sys_fs_cgroup_wins_over_others_of_the_same_tree() -> None:
    text = mount_line("cgroup", "/else/memory", "rw,memory") + mount_line(
        "cgroup", "/sys/fs/cgroup/memory", "rw,memory"
    )

    assert [h.mount for h in mounted(text)] == ["/sys/fs/cgroup/memory"]


def test_blanks_in_mount_points_are_read() -> None:
    (found,) = mounted(mount_line("cgroup", "/with\\040blank\\134", "rw,pids"))

    assert found.mount == "/with blank\\"


def test_a_system_without_cgroups_says_so() -> None:
    with pytest.raises(Unsupported, match="no control groups"):
        detect("22 27 0:21 / /proc rw,relatime - proc proc rw\n")


def test_a_path_is_told_relative_to_what_is_mounted() -> None:
    (found,) = mounted(mount_line("cgroup", "/sys/fs/cgroup/memory", "rw,memory", root="/docker/4f"))

    assert found.relative("/docker/4f/inner") == "inner"
    assert found.relative("/docker/4f") == ""
    assert found.relative("/docker/4f0") == "docker/4f0"


def test_a_group_outside_the_namespace_has_no_path(v2_host: CgroupHost) -> None:
    assert path_in(v2_host.hierarchies[0], {"v2": "/../other"}) is None
    assert path_in(v2_host.hierarchies[0], {"v2": "/mine"}) == "/mine"


@pytest.mark.parametrize("path", ["", "/", "/a", "../a", "a/../b", "a//b", "a/./b", "a\0b"])
def test_a_name_that_leaves_the_tree_is_refused(v2_host: CgroupHost, path: str) -> None:
    with pytest.raises(UsageError):
        v2_host.group(path)


def test_on_v2_every_group_above_hands_the_controllers_down_first(v2_host: CgroupHost, tmp_path: Path) -> None:
    steps = v2_host.group("innkeeper/web").create_steps()

    assert [step.by_hand() for step in steps] == [
        f"echo '+cpuset +cpu +io +memory +pids' > {tmp_path}/cgroup.subtree_control",
        f"mkdir -p {tmp_path}/innkeeper",
        f"echo '+cpuset +cpu +io +memory +pids' > {tmp_path}/innkeeper/cgroup.subtree_control",
        f"mkdir -p {tmp_path}/innkeeper/web",
    ]
    steps[0].run()
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpuset +cpu +io"


def test_on_v1_a_group_is_made_once_in_each_tree(v1_host: CgroupHost, tmp_path: Path) -> None:
    group = v1_host.group("innkeeper/web")

    for step in group.create_steps():
        step.run()

    made = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/innkeeper/web"))
    names = ("blkio", "cpu,cpuacct", "cpuset", "freezer", "memory", "name=systemd", "net_cls,net_prio", "pids")
    assert made == [f"{name}/innkeeper/web" for name in names]


def test_v1_cpusets_are_filled_from_above(v1_host: CgroupHost, tmp_path: Path) -> None:
    top = tmp_path / "cpuset"
    for folder, cpus in ((top, "0-3"), (top / "innkeeper", ""), (top / "innkeeper/web", "")):
        folder.mkdir(exist_ok=True)
        (folder / "cpuset.cpus").write_text(f"{cpus}\n")
        (folder / "cpuset.mems").write_text("0\n")
    (step,) = [s for s in v1_host.group("innkeeper/web").create_steps() if "/cpuset/" in s.describe()]

    step.run()

    assert (top / "innkeeper/cpuset.cpus").read_text() == "0-3"
    assert (top / "innkeeper/web/cpuset.cpus").read_text() == "0-3"


def test_making_groups_where_one_may_not_says_where(v2_host: CgroupHost, tmp_path: Path) -> None:
    (tmp_path / "innkeeper").write_text("a file")

    with pytest.raises(KernelRefused, match="make the group"):
        v2_host.group("innkeeper/web").create_steps()[-1].run()


def test_a_missing_limit_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(KernelRefused) as caught:
        WriteFile(f"{tmp_path}/cpu.max", "max 100000").run()

    assert "cpu controller is not enabled" in caught.value.hint


def lines(steps: list[WriteFile]) -> list[str]:
    return [f"{os.path.basename(step.path)} {step.text}" for step in steps]


NOTHING = Limits()


def test_v2_files_get_the_texts_of_the_kernel_s_documentation() -> None:
    wanted = Limits(cpus=0.5, cpu_weight=10, cpuset="0-1", memory_bytes=64 * MIB, pids=5)

    assert lines(cgroup2.cpu_steps("/g", wanted, NOTHING)) == ["cpu.max 50000 100000", "cpu.weight 10"]
    assert lines(cgroup2.cpu_steps("/g", NOTHING, wanted)) == ["cpu.max max 100000", "cpu.weight 100"]
    assert lines(cgroup2.cpuset_steps("/g", wanted, NOTHING)) == ["cpuset.cpus 0-1"]
    assert lines(cgroup2.cpuset_steps("/g", NOTHING, wanted)) == ["cpuset.cpus "]
    assert lines(cgroup2.memory_steps("/g", wanted, NOTHING)) == ["memory.max 67108864"]
    assert lines(cgroup2.memory_steps("/g", NOTHING, wanted)) == ["memory.max max"]
    assert lines(cgroup2.pids_steps("/g", wanted, NOTHING)) == ["pids.max 5"]
    assert lines(cgroup2.pids_steps("/g", NOTHING, wanted)) == ["pids.max max"]


def test_a_quota_below_the_kernel_s_smallest_gets_a_longer_period() -> None:
    assert lines(cgroup2.cpu_steps("/g", Limits(cpus=0.005), NOTHING)) == ["cpu.max 5000 1000000"]
    assert lines(cgroup1.cpu_steps("/g", Limits(cpus=0.005), NOTHING)) == [
        "cpu.cfs_quota_us -1",
        "cpu.cfs_period_us 1000000",
        "cpu.cfs_quota_us 5000",
    ]


def test_equal_cpu_lists_are_not_written_again() -> None:
    assert cgroup2.cpuset_steps("/g", Limits(cpuset="0,1,2"), Limits(cpuset="0-2")) == []


def test_v1_memory_and_swap_are_written_so_that_the_sum_is_never_the_smaller() -> None:
    small, big = Limits(memory_bytes=32 * MIB, swap_bytes=0), Limits(memory_bytes=64 * MIB, swap_bytes=16 * MIB)

    assert lines(cgroup1.memory_steps("/g", big, small)) == [
        f"memory.memsw.limit_in_bytes {80 * MIB}",
        f"memory.limit_in_bytes {64 * MIB}",
    ]
    assert lines(cgroup1.memory_steps("/g", small, big)) == [
        f"memory.limit_in_bytes {32 * MIB}",
        f"memory.memsw.limit_in_bytes {32 * MIB}",
    ]
    assert lines(cgroup1.memory_steps("/g", NOTHING, small)) == [
        "memory.memsw.limit_in_bytes -1",
        "memory.limit_in_bytes -1",
    ]


sizes = st.none() | st.integers(1, 1000).map(lambda n: n * MIB)


@given(sizes, sizes, sizes, sizes)
def test_v1_memory_never_passes_through_a_state_the_kernel_refuses(
    memory: int | None, swap: int | None, old_memory: int | None, old_swap: int | None
) -> None:
    wanted = Limits(memory_bytes=memory, swap_bytes=swap if memory else None)
    current = Limits(memory_bytes=old_memory, swap_bytes=old_swap if old_memory else None)
    endless = float("inf")
    state = {
        "memory.limit_in_bytes": old_memory or endless,
        "memory.memsw.limit_in_bytes": (old_memory or 0) + old_swap if old_memory and old_swap else endless,
    }

    for step in cgroup1.memory_steps("/g", wanted, current):
        state[os.path.basename(step.path)] = endless if step.text == "-1" else int(step.text)
        assert state["memory.limit_in_bytes"] <= state["memory.memsw.limit_in_bytes"]

    assert state["memory.limit_in_bytes"] == (memory or endless)


def test_v1_swap_alone_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="only be limited together with memory"):
        cgroup1.memory_steps("/g", Limits(swap_bytes=MIB), NOTHING)


def test_each_device_gets_its_line() -> None:
    wanted = {"8:0": (MIB, None, None, 7), "8:16": (None, None, None, None)}
    current = {"8:16": (None, 5, None, None)}

    assert lines(cgroup2.io_steps("/g", wanted, current)) == [
        "io.max 8:0 rbps=1048576 wbps=max riops=max wiops=7",
        "io.max 8:16 rbps=max wbps=max riops=max wiops=max",
    ]
    assert lines(cgroup1.io_steps("/g", wanted, current)) == [
        "blkio.throttle.read_bps_device 8:0 1048576",
        "blkio.throttle.write_iops_device 8:0 7",
        "blkio.throttle.write_bps_device 8:16 0",
    ]


def test_undo_of_a_device_s_line_writes_its_old_line(tmp_path: Path) -> None:
    file = tmp_path / "io.max"
    old = "8:0 rbps=5 wbps=max riops=max wiops=max"
    file.write_text(f"8:16 rbps=1 wbps=max riops=max wiops=max\n{old}\n")
    (step,) = cgroup2.io_steps(str(tmp_path), {"8:0": (9, None, None, None)}, {"8:0": (5, None, None, None)})

    step.run()
    assert file.read_text() == "8:0 rbps=9 wbps=max riops=max wiops=max"
    step.undo()

    assert file.read_text() == old


def test_undo_of_a_new_device_s_line_lifts_it(tmp_path: Path) -> None:
    file = tmp_path / "blkio.throttle.read_bps_device"
    file.write_text("8:16 1\n")
    (step,) = cgroup1.io_steps(str(tmp_path), {"8:0": (9, None, None, None)}, {})

    step.run()
    step.undo()

    assert file.read_text() == "8:0 0"


def test_a_memory_throttle_is_refused_on_v1_with_the_reason(v1_host: CgroupHost) -> None:
    assert "soft limit throttles nobody" in v1_host.reasons()["memory_high_bytes"]
    with pytest.raises(Unsupported, match="soft limit throttles nobody"):
        v1_host.group("x").limit_steps(Limits(memory_high_bytes=MIB))


def test_network_limits_are_left_to_others(v2_host: CgroupHost) -> None:
    assert v2_host.group("x").limit_steps(Limits(net_rx_bytes_per_s=5), Limits()) == []
    assert v2_host.reasons()["net_rx_bytes_per_s"]


def test_every_field_has_a_reason_or_none(v1_host: CgroupHost, v2_host: CgroupHost) -> None:
    fields = set(Limits.__dataclass_fields__)

    assert set(v1_host.reasons()) == fields
    assert set(v2_host.reasons()) == fields
    assert v2_host.reasons()["memory_high_bytes"] == ""


@pytest.mark.parametrize(
    "limits, words",
    [
        (Limits(cpus=0.0001), "smallest the kernel takes"),
        (Limits(cpu_weight=0), "between 1 and 10000"),
        (Limits(cpu_weight=10_001), "between 1 and 10000"),
        (Limits(memory_bytes=100), "less than one page"),
        (Limits(pids=0), "leaves none"),
        (Limits(cpuset="0-"), "no list of CPUs"),
        (Limits(cpuset="3-1"), "no list of CPUs"),
        (Limits(cpuset=" , "), "leaves none"),
        (Limits(io_read_bytes_per_s=0), "at least 1"),
        (Limits(io_devices=(DeviceIo("/dev/null", read_bytes_per_s=-1),)), "at least 1"),
        (Limits(io_devices=(DeviceIo("/dev/null", read_bytes_per_s=5),)), "no block device"),
        (Limits(io_devices=(DeviceIo("/dev/innkeeper-none", read_bytes_per_s=5),)), "no device"),
    ],
)
def test_a_value_that_no_kernel_takes_is_refused_before_anything_is_written(
    v2_host: CgroupHost, limits: Limits, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        v2_host.group("x").limit_steps(limits, Limits())


def test_the_kernels_defaults_of_share_and_weight_are_each_other() -> None:
    assert [cgroup_values.shares_to_weight(shares) for shares in (2, 1024, 262_144)] == [1, 100, 10_000]
    assert [cgroup_values.weight_to_shares(weight) for weight in (1, 100, 10_000)] == [2, 1024, 262_144]


def test_every_weight_survives_the_way_over_shares() -> None:
    weights = range(1, 10_001)

    assert [cgroup_values.shares_to_weight(cgroup_values.weight_to_shares(weight)) for weight in weights] == [*weights]


@given(st.integers(2, 262_143))
def test_more_shares_are_never_less_weight(shares: int) -> None:
    assert cgroup_values.shares_to_weight(shares) <= cgroup_values.shares_to_weight(shares + 1)


@given(st.frozensets(st.integers(0, 300), max_size=40))
def test_cpu_lists_survive_the_way_over_text(cpus: frozenset[int]) -> None:
    assert cgroup_values.parse_cpu_list(cgroup_values.format_cpu_list(cpus)) == cpus


@given(st.floats(0.001, 512))
def test_a_quota_comes_back_as_the_cores_it_was(cpus: float) -> None:
    quota_us, period_us = cgroup_values.quota(cpus)

    assert quota_us is not None
    assert quota_us >= 1000
    assert cgroup_values.cores(quota_us, period_us) == pytest.approx(cpus, rel=0.001, abs=0.0006)
