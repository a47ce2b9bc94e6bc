"""Limits of real containers: set at the start, changed live, seen in the kernel and in what the guest can do."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.errors import InnkeeperError, Unsupported, UsageError
from backends.metrics import rates
from backends.model import Guest, Limits
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import log_of, now
from tests.tools.needs import disk_folder, needs
from tests.tools.waiting import wait_until

pytestmark = [
    needs("root", "cgroup.cpu", "cgroup.memory", "cgroup.pids"),
    pytest.mark.shared_state,
    pytest.mark.timeout(180),
]
Run = Callable[..., Guest]
R = Recorder("test")
MIB = 1024 * 1024


def cpu_pct_over(native: NativeBackend, guest: Guest, seconds: float) -> float:
    """Measure a guest's CPU from its counters over a time: this is what is being tested, not waited for."""
    native.guests()
    before = native.sample()[guest.ref]
    time.sleep(seconds)
    found = rates(before, native.sample()[guest.ref]).cpu_pct
    assert found is not None
    return found


def test_a_cpu_limit_is_followed_and_so_is_its_change_within_three_seconds(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "while :; do :; done", cpus=0.2)
    wait_until(lambda: 18 <= cpu_pct_over(native, guest, 1.0) <= 22, timeout_s=20)
    native.set_limits(guest.ref, {"cpus": 0.6}, R)
    measured = [cpu_pct_over(native, guest, 1.0) for _ in range(3)]
    assert any(54 <= value <= 66 for value in measured), measured
    assert native.limits(guest.ref).cpus == 0.6


def test_a_throttled_container_says_so_in_its_counters(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "while :; do :; done", cpus=0.1)
    native.guests()
    before = native.sample()[guest.ref]

    def throttled() -> float:
        return rates(before, native.sample()[guest.ref]).cpu_throttled_pct or 0.0

    wait_until(lambda: throttled() > 50, timeout_s=20)
    native.set_limits(guest.ref, {"cpus": None}, R)
    assert native.limits(guest.ref).cpus is None


def test_a_memory_limit_below_use_is_warned_of_and_then_the_oom_kill_is_counted(
    native: NativeBackend, run: Run
) -> None:
    program = "import time; b = b'x' * (100 << 20); print('filled', flush=True); time.sleep(1000)"
    line = f'python3 -c "{program}"; echo again; sleep 1000'
    guest = run("sh", "-c", line, memory_bytes=200 * MIB, swap_bytes=0)
    wait_until(lambda: "filled" in log_of(native, guest), timeout_s=30)
    native.guests()
    wait_until(lambda: (native.sample()[guest.ref].memory_bytes or 0) > 90 * MIB)
    last = native.sample()[guest.ref]
    warnings = native.limit_warnings(guest, {"memory_bytes": 50 * MIB}, last)
    assert len(warnings) == 1
    assert "OOM" in warnings[0]
    try:
        native.set_limits(guest.ref, {"memory_bytes": 50 * MIB}, R)
    except InnkeeperError:
        # cgroup v1 refuses a limit that it cannot reclaim to, where v2 sets it and kills.
        native.kill(guest.ref, R)
        native.wait(guest.ref, timeout_s=30)
        native.set_limits(guest.ref, {"memory_bytes": 50 * MIB}, R)
        native.start(guest.ref, R)
        native.guests()
    wait_until(lambda: (native.sample()[guest.ref].oom_kills or 0) >= 1, timeout_s=30)
    assert native.inspect(guest.ref)["state"]["oom_kills"] >= 1
    # Where the killed one is slow to give its memory back (one CPU, user-mode Linux), v2 goes on to kill the shell.
    wait_until(lambda: "again" in log_of(native, guest) or not now(native, guest).state.is_live, timeout_s=30)


def test_an_oom_kill_of_the_first_process_is_told_in_its_end(native: NativeBackend, run: Run) -> None:
    guest = run("python3", "-c", "b'x' * (200 << 20)", memory_bytes=40 * MIB, swap_bytes=0)
    assert native.wait(guest.ref, timeout_s=60) == 137
    ended = now(native, guest)
    assert ended.oom_kills == 1
    assert "memory" in ended.note
    assert native.inspect(guest.ref)["state"]["oom_kills"] == 1


def test_a_task_limit_stops_forks(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "for i in $(seq 50); do sleep 100 & done; sleep 100", pids=20)
    wait_until(lambda: "fork" in log_of(native, guest).lower() or "Resource" in log_of(native, guest), timeout_s=30)
    native.guests()
    sample = native.sample().get(guest.ref)
    assert sample is None or (sample.pids or 0) <= 20


def test_limits_given_at_the_start_are_in_the_kernel(native: NativeBackend, run: Run) -> None:
    asked = Limits(cpus=0.5, cpu_weight=50, memory_bytes=64 * MIB, pids=50)
    guest = run("sleep", "1000", cpus=0.5, cpu_weight=50, memory_bytes=64 * MIB, pids=50)
    assert native.limits(guest.ref) == asked
    assert now(native, guest).limits == asked


@needs("limit.cpuset")
def test_a_container_stays_on_the_cpus_it_is_given(
    native: NativeBackend, run: Run, output_of: Callable[..., str]
) -> None:
    guest = run("sleep", "1000", cpuset="0")
    assert native.limits(guest.ref).cpuset == "0"
    assert output_of(guest, "grep Cpus_allowed_list /proc/self/status").split() == ["Cpus_allowed_list:", "0"]


def test_limits_of_a_stopped_container_are_for_its_next_start(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    native.kill(guest.ref, R)
    native.wait(guest.ref, timeout_s=30)
    native.set_limits(guest.ref, {"pids": 33}, R)
    native.start(guest.ref, R)
    assert native.limits(guest.ref).pids == 33


def test_of_several_changes_either_all_hold_or_none(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000", cpus=0.5)
    before = native.limits(guest.ref)
    for bad in ({"cpus": 0.3, "cpuset": "4000"}, {"cpus": 0.3, "pids": -5}, {"cpus": -1.0}):
        with pytest.raises(InnkeeperError):
            native.set_limits(guest.ref, bad, R)
        assert native.limits(guest.ref) == before
        assert now(native, guest).limits == before


def test_what_cannot_be_limited_says_why(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    reasons = native.limit_fields(guest)
    assert reasons["cpus"] == ""
    for name, reason in reasons.items():
        if reason and name != "io_devices":
            value = 1.0 if name == "cpus" else "0" if name == "cpuset" else 1 << 30
            with pytest.raises(Unsupported):
                native.set_limits(guest.ref, {name: value}, R)
    with pytest.raises(UsageError):
        native.set_limits(guest.ref, {"no_such_limit": 1}, R)


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder on a whole disk, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="inn-test-", dir=disk_folder()))
    yield folder
    shutil.rmtree(folder)


@needs("disk", "limit.io_write_bytes_per_s")
def test_writing_is_held_to_its_limit(on_disk: Path, native: NativeBackend, run: Run) -> None:
    line = "while :; do dd if=/dev/zero of=/data/f bs=256k count=16 oflag=direct 2>/dev/null; done"
    guest = run("sh", "-c", line, volumes=(f"{on_disk}:/data",))
    native.guests()

    def written_per_s(seconds: float) -> float:
        before = native.sample()[guest.ref]
        time.sleep(seconds)
        return rates(before, native.sample()[guest.ref]).io_write_bytes_per_s or 0.0

    free = wait_until(lambda: written_per_s(1.0), timeout_s=20)
    assert free > 4 * MIB
    native.set_limits(guest.ref, {"io_write_bytes_per_s": 2 * MIB}, R)
    wait_until(lambda: 1.8 * MIB <= written_per_s(2.0) <= 2.2 * MIB, timeout_s=30)


def test_a_change_is_recorded_with_the_file_and_the_value(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    native.set_limits(guest.ref, {"pids": 77}, R)
    last = native.trace(guest.ref)[-1]
    assert last.process == "client"
    assert "pids.max" in last.text
    assert "77" in last.by_hand


def test_an_oom_kill_is_in_the_list_while_the_container_goes_on(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "python3 -c \"b'x' * (200 << 20)\"; sleep 1000", memory_bytes=40 * MIB, swap_bytes=0)
    wait_until(lambda: now(native, guest).oom_kills == 1, timeout_s=60)
    assert now(native, guest).state.is_live
