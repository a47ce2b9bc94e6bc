"""The reader leaves out what cannot have changed, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.kernel.cgroup_file import GuestVanished
from backends.kernel.cgroup_reader import FULL_PASSES, CgroupReader, files_of


class FakeGroup:
    """A v1 group as a folder of files, with a v2 one for pressure."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.set("cpuacct.usage", "1000")
        self.set("memory.usage_in_bytes", "4096")
        self.set("memory.limit_in_bytes", "1048576")
        self.set("memory.failcnt", "0")
        self.set("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0")
        self.set("memory.stat", "cache 5\ntotal_inactive_file 12")
        self.set("cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0")
        self.set("pids.current", "1")
        self.set("blkio.throttle.io_service_bytes_recursive", "Total 0")
        self.set("blkio.throttle.io_serviced_recursive", "Total 0")
        self.set("io.pressure", "some avg10=0 avg60=0 avg300=0 total=0")

    def set(self, name: str, text: str) -> None:
        """Change a file in place: readers keep it open."""
        with (self.folder / name).open("r+" if (self.folder / name).exists() else "w") as file:
            file.write(text + "\n")
            file.truncate()

    def reader(self) -> CgroupReader:
        seats = dict.fromkeys(("cpuacct", "cpu", "memory", "io", "pids"), (1, str(self.folder)))
        return CgroupReader("fake", files_of(seats, str(self.folder)))


@pytest.fixture
def group(tmp_path: Path) -> FakeGroup:
    return FakeGroup(tmp_path)


@pytest.fixture
def reader(group: FakeGroup) -> Iterator[CgroupReader]:
    found = group.reader()
    yield found
    found.close()


def test_the_first_read_has_everything_and_none_for_what_is_absent(reader: CgroupReader) -> None:
    sample = reader.read(5.0, net_rx_bytes=7)

    assert (sample.time_s, sample.cpu_usage_ns, sample.memory_bytes, sample.pids) == (5.0, 1000, 4096, 1)
    assert (sample.memory_cache_bytes, sample.memory_limit_bytes, sample.oom_kills) == (12, 1048576, 0)
    assert (sample.io_read_bytes, sample.io_write_ops, sample.io_pressure_us) == (0, 0, 0)
    assert (sample.net_rx_bytes, sample.net_tx_bytes) == (7, None)
    assert (sample.swap_bytes, sample.cpu_pressure_us, sample.memory_high_events) == (None, None, None)


def test_a_group_that_used_cpu_is_read_in_the_same_pass(group: FakeGroup, reader: CgroupReader) -> None:
    reader.read(0.0)
    group.set("cpuacct.usage", "2000")
    group.set("pids.current", "9")
    group.set("blkio.throttle.io_service_bytes_recursive", "254:0 Read 512\nTotal 512")
    group.set("blkio.throttle.io_serviced_recursive", "254:0 Read 3\nTotal 3")
    group.set("io.pressure", "some avg10=0 avg60=0 avg300=0 total=44")

    sample = reader.read(1.0)

    assert (sample.pids, sample.io_read_bytes, sample.io_read_ops, sample.io_pressure_us) == (9, 512, 3, 44)


def test_waiting_that_goes_on_without_cpu_is_read_on(group: FakeGroup, reader: CgroupReader) -> None:
    reader.read(0.0)
    group.set("cpuacct.usage", "2000")
    for pass_number in range(1, 5):
        group.set("io.pressure", f"some avg10=0 avg60=0 avg300=0 total={pass_number}")

        assert reader.read(float(pass_number)).io_pressure_us == pass_number


def test_an_oom_kill_is_seen_when_memory_changed(group: FakeGroup, reader: CgroupReader) -> None:
    reader.read(0.0)
    group.set("memory.usage_in_bytes", "8192")
    group.set("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1")

    assert reader.read(1.0).oom_kills == 1


def test_a_guest_held_at_its_limit_is_watched(group: FakeGroup, reader: CgroupReader) -> None:
    group.set("memory.usage_in_bytes", "1048576")
    reader.read(0.0)
    for failures in (5, 5, 6):
        group.set("memory.failcnt", str(failures))

        assert reader.read(1.0).memory_max_events == failures


def test_everything_is_read_again_now_and_then(group: FakeGroup, reader: CgroupReader) -> None:
    reader.read(0.0)
    group.set("pids.current", "5")
    group.set("memory.limit_in_bytes", "2097152")
    group.set("cpu.stat", "nr_periods 7\nnr_throttled 1\nthrottled_time 5")

    samples = [reader.read(float(number)) for number in range(FULL_PASSES)]

    assert samples[-1].pids == 5
    assert samples[-1].memory_limit_bytes == 2097152
    assert samples[-1].cpu_periods == 7


def test_a_long_file_is_read_whole(group: FakeGroup) -> None:
    group.set("memory.stat", "".join(f"key{number} 1\n" for number in range(2000)) + "total_inactive_file 77")
    reader = group.reader()

    assert reader.read(0.0).memory_cache_bytes == 77
    reader.close()


def test_a_folder_without_a_single_file_is_a_guest_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(GuestVanished):
        CgroupReader("none", files_of({"memory": (2, str(tmp_path / "none"))}, None))


def test_descriptors_are_not_inherited(reader: CgroupReader, group: FakeGroup) -> None:
    mine = [fd for fd in os.listdir("/proc/self/fd") if str(group.folder) in _target(fd)]

    assert mine
    assert not any(os.get_inheritable(int(fd)) for fd in mine)


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""
