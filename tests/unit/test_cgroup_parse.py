"""Parsers of cgroup and /proc files: real samples, samples in the form the kernel documents, and any shape."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.kernel import cgroup_parse as parse
from backends.kernel import procfs
from backends.kernel.cgroup2 import parse_io_max
from backends.kernel.cgroup_file import parse_amount, parse_keyed
from backends.kernel.cgroup_hierarchy import parse_proc_cgroup
from backends.kernel.cgroup_reader import files_of

# cgroup-v2.rst, "CPU Interface Files"; Linux 6.1.
CPU_STAT_V2 = b"""\
usage_usec 2213456
user_usec 2000000
system_usec 213456
nr_periods 25
nr_throttled 20
throttled_usec 1934567
nr_bursts 0
burst_usec 0
"""

# Linux 6.18, cgroup v1.
CPU_STAT_V1 = b"nr_periods 11\nnr_throttled 10\nthrottled_time 758843919\nnr_bursts 0\nburst_time 0\n"
OOM_CONTROL = b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
IO_BYTES_V1 = (
    b"254:0 Read 8192\n254:0 Write 4194304\n254:0 Sync 4202496\n254:0 Async 0\n254:0 Discard 0\nTotal 4202496\n"
)
NO_IO_V1 = b"Total 0\n"

# cgroup-v2.rst, "IO Interface Files".
IO_STAT = b"""\
8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0
8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021
"""
IO_MAX = "8:16 rbps=2097152 wbps=max riops=max wiops=120\n8:0 rbps=max wbps=max riops=max wiops=max"
PRESSURE = b"some avg10=7.15 avg60=2.00 avg300=0.50 total=60467204\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=17\n"
MEMORY_EVENTS = b"low 0\nhigh 12\nmax 34\noom 2\noom_kill 1\noom_group_kill 0\n"

NET_DEV = b"""\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    3193      50    0    0    0     0          0         0     3193      50    0    0    0     0       0          0
  eth0: 3116478778 9 0 0 0 0 0 0 4270342 8 0 0 0 0 0 0
vnet0:3 1 0 0 0 0 0 0 5 2 0 0 0 0 0 0
"""  # fmt: skip  # noqa: E501


def fields_of(path: str, raw: bytes) -> parse.Fields:
    """Parse as the reader does for that file of that version."""
    for version, controllers in ((1, ("cpuacct", "cpu", "memory", "io", "pids")), (2, ("cpu", "memory", "io", "pids"))):
        files = files_of(dict.fromkeys(controllers, (version, f"/v{version}")), "/u")
        for _, found, parser in files:
            if found == path:
                return parser(raw)
    raise AssertionError(path)


def test_cpu_stat_of_v2_is_told_in_nanoseconds() -> None:
    assert fields_of("/v2/cpu.stat", CPU_STAT_V2) == {
        "cpu_usage_ns": 2_213_456_000,
        "cpu_periods": 25,
        "cpu_throttled_periods": 20,
        "cpu_throttled_ns": 1_934_567_000,
    }


def test_cpu_stat_without_the_cpu_controller_has_usage_only() -> None:
    assert fields_of("/v2/cpu.stat", b"usage_usec 7\nuser_usec 5\nsystem_usec 2\n") == {
        "cpu_usage_ns": 7000,
        "cpu_periods": None,
        "cpu_throttled_periods": None,
        "cpu_throttled_ns": None,
    }


def test_v1_files_are_read_with_their_own_units() -> None:
    assert fields_of("/v1/cpuacct.usage", b"221978009\n") == {"cpu_usage_ns": 221978009}
    assert fields_of("/v1/cpu.stat", CPU_STAT_V1)["cpu_throttled_ns"] == 758843919
    assert fields_of("/v1/memory.oom_control", OOM_CONTROL) == {"oom_kills": 3}
    assert fields_of("/v1/memory.oom_control", b"oom_kill_disable 0\nunder_oom 0\n") == {"oom_kills": None}


def test_a_limit_that_means_none_is_none() -> None:
    assert fields_of("/v1/memory.limit_in_bytes", b"9223372036854771712\n") == {"memory_limit_bytes": None}
    assert fields_of("/v1/memory.limit_in_bytes", b"67108864\n") == {"memory_limit_bytes": 67108864}
    assert fields_of("/v2/memory.max", b"max\n") == {"memory_limit_bytes": None}
    assert fields_of("/v2/memory.max", b"67108864\n") == {"memory_limit_bytes": 67108864}


def test_io_is_summed_over_disks() -> None:
    assert fields_of("/v2/io.stat", IO_STAT) == {
        "io_read_bytes": 91889664,
        "io_write_bytes": 613781504,
        "io_read_ops": 9142,
        "io_write_ops": 1605,
    }
    where = "/v1/blkio.throttle.io_service_bytes_recursive"
    assert fields_of(where, IO_BYTES_V1) == {"io_read_bytes": 8192, "io_write_bytes": 4194304}


def test_no_line_of_io_yet_is_no_io_yet() -> None:
    assert set(fields_of("/v2/io.stat", b"").values()) == {0}
    assert set(fields_of("/v1/blkio.throttle.io_serviced_recursive", NO_IO_V1).values()) == {0}


def test_memory_events_are_counted_apart() -> None:
    assert fields_of("/v2/memory.events", MEMORY_EVENTS) == {
        "memory_high_events": 12,
        "memory_max_events": 34,
        "oom_kills": 1,
    }


@pytest.mark.parametrize("raw", [b"inactive_file 5\n", b"anon 1\ninactive_file 5\nfile 3\n", b"a 1\ninactive_file 5"])
def test_one_key_is_found_at_any_place(raw: bytes) -> None:
    assert parse.one_key(b"inactive_file", "x")(raw) == {"x": 5}


@pytest.mark.parametrize("raw", [b"", b"total_inactive_file 5\n", b"inactive_file_x 5\n", b"x inactive_file 5\n"])
def test_one_key_is_not_taken_for_another(raw: bytes) -> None:
    assert parse.one_key(b"inactive_file", "x")(raw) == {"x": None}


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.integers(0, 2**63), max_size=12))
def test_any_flat_file_is_read_alike_by_both_ways(values: dict[str, int]) -> None:
    raw = "".join(f"{key} {value}\n" for key, value in values.items()).encode()
    wanted = {"field": values.get("oom_kill")}

    assert parse.one_key(b"oom_kill", "field")(raw) == wanted
    assert parse.keyed({b"oom_kill": ("field", 1)})(raw) == wanted
    assert parse_keyed(raw.decode()) == {key: str(value) for key, value in values.items()}


def test_pressure_is_its_some_total() -> None:
    assert fields_of("/u/cpu.pressure", PRESSURE) == {"cpu_pressure_us": 60467204}
    assert fields_of("/u/cpu.pressure", b"") == {"cpu_pressure_us": None}


def test_io_max_has_none_for_no_limit() -> None:
    assert parse_io_max(IO_MAX) == {"8:16": (2097152, None, None, 120), "8:0": (None, None, None, None)}
    assert parse_io_max("") == {}
    assert parse_io_max(None) == {}


@pytest.mark.parametrize("text", ["max", "", None, "x 1"])
def test_what_is_no_number_is_no_amount(text: str | None) -> None:
    assert parse_amount(text) is None


def test_groups_of_a_process_are_read_on_any_host() -> None:
    text = (
        "12:cpu,cpuacct:/system.slice/a:b.service\n5:devices:/\n1:name=systemd:/x\n0::/user.slice/run-1.scope (deleted)"
    )

    assert parse_proc_cgroup(text) == {
        frozenset({"cpu", "cpuacct"}): "/system.slice/a:b.service",
        frozenset({"devices"}): "/",
        frozenset({"name=systemd"}): "/x",
        "v2": "/user.slice/run-1.scope",
    }


@pytest.mark.parametrize("name", ["sleep", "a b", ") R 1 (", "x\ny", "((", ""])
def test_a_process_is_read_whatever_its_name(name: str) -> None:
    numbers = "1 71 71 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 3 0 219875 12660736 640 18446744073709551615"

    stat = procfs.parse_stat(f"42 ({name}) S {numbers} 1 1 0 0\n")

    assert (stat.pid, stat.command, stat.state, stat.ppid) == (42, name, "S", 1)
    assert stat.threads == 3
    assert stat.start_ticks == 219875
    assert stat.rss_bytes == 640 * 4096
    assert stat.cpu_time_s == pytest.approx(2.0)


def test_the_pid_in_the_inner_namespace_is_the_last() -> None:
    text = "Name:\tsh\nUmask:\t0022\nState:\tS (sleeping)\nPid:\t900\nUid:\t0\t1000\t0\t0\nNSpid:\t900\t7\t1\n"

    assert procfs.parse_status(text) == procfs.ProcessStatus(uid=1000, ns_pids=(900, 7, 1))


def test_all_links_are_read_in_one_pass() -> None:
    assert procfs.parse_net_dev(NET_DEV) == {"lo": (3193, 3193), "eth0": (3116478778, 4270342), "vnet0": (3, 5)}
    assert procfs.parse_net_dev(b"") == {}


def test_this_process_is_the_one_it_says() -> None:
    me = os.getpid()
    ticks = procfs.start_ticks(me)

    assert ticks is not None
    assert procfs.is_same_process(me, ticks)
    assert not procfs.is_same_process(me, ticks + 1)
    assert [p.pid for p in procfs.guest_processes([me, 2**22 + 1])] == [me]
