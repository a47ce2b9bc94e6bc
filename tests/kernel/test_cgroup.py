"""Control groups on this kernel, whatever its mode; on a hybrid host also with the v1 hierarchies alone."""

from __future__ import annotations

import errno
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.errors import KernelRefused, Unsupported, UsageError
from backends.kernel import procfs
from backends.kernel.cgroup import Cgroup, CgroupHost, CgroupReader, GuestVanished, detect
from backends.metrics import Sample
from backends.model import DeviceIo, Limits
from backends.trace import Recorder
from tests.tools.needs import disk_folder, needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu", "cgroup.memory", "cgroup.pids"), pytest.mark.timeout(60)]

MIB = 1 << 20
BUSY = ("sh", "-c", "while :; do :; done")


def _views() -> list[str]:
    try:
        return ["as mounted", "v1 alone"] if detect().mode == "hybrid" else ["as mounted"]
    except Unsupported:
        return ["as mounted"]


@pytest.fixture(params=_views())
def host(request: pytest.FixtureRequest) -> CgroupHost:
    found = detect()
    if request.param == "as mounted":
        return found
    return CgroupHost(tuple(h for h in found.hierarchies if h.version == 1))


@pytest.fixture
def group(host: CgroupHost) -> Iterator[Cgroup]:
    """A group made and not limited, in one of its own; both are gone afterwards, whatever happened."""
    above = host.group(f"innkeeper-test-{secrets.token_hex(6)}")
    made = host.group(f"{above.path}/guest")
    try:
        Recorder("test").run_all(made.create_steps())
        yield made
    finally:
        if above.exists():
            above.kill()
        above.remove()
    assert not made.exists()
    assert not above.exists()


@pytest.fixture
def reader(group: Cgroup) -> Iterator[CgroupReader]:
    found = group.reader()
    yield found
    found.close()


@pytest.fixture
def launch(group: Cgroup) -> Iterator[Launch]:
    """Starts programs in the group; ends and reaps them afterwards."""
    launch = Launch(group)
    yield launch
    if group.exists():
        group.kill()
    for process in launch.started:
        process.kill()
        process.communicate()


class Launch:
    """Starts programs that are in the group before their first own instruction."""

    def __init__(self, group: Cgroup) -> None:
        self._group = group
        self.started: list[subprocess.Popen[str]] = []

    def __call__(self, *arguments: str) -> subprocess.Popen[str]:
        waiter = ("sh", "-c", 'read -r _; exec "$@" < /dev/null', "sh", *arguments)
        process = subprocess.Popen(waiter, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.started.append(process)
        self._group.enter(process.pid)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return process

    def python(self, program: str) -> subprocess.Popen[str]:
        return self(sys.executable, "-I", "-S", "-c", program)


def limit(group: Cgroup, limits: Limits) -> None:
    Recorder("test").run_all(group.limit_steps(limits))


def read(reader: CgroupReader) -> Sample:
    return reader.read(time.monotonic())


def full_read(group: Cgroup) -> Sample:
    """A first read, which leaves nothing out."""
    reader = group.reader()
    try:
        return read(reader)
    finally:
        reader.close()


def test_a_quota_holds_a_busy_guest_back(group: Cgroup, reader: CgroupReader, launch: Launch) -> None:
    limit(group, Limits(cpus=0.2))
    before = read(reader)

    launch(*BUSY)
    after = wait_until(lambda: _after_periods(before, read(reader), 15), timeout_s=40)

    periods = _since(before, after, "cpu_periods")
    used_ns, quota_ns = _since(before, after, "cpu_usage_ns"), (periods + 1) * 20_000_000
    assert 0.4 * quota_ns < used_ns < 1.3 * quota_ns
    assert _since(before, after, "cpu_throttled_periods") > periods / 2
    assert _since(before, after, "cpu_throttled_ns") > 0


def _after_periods(before: Sample, now: Sample, count: int) -> Sample | None:
    return now if _since(before, now, "cpu_periods") >= count else None


def _since(before: Sample, after: Sample, name: str) -> int:
    old, new = getattr(before, name), getattr(after, name)
    assert old is not None, name
    assert new is not None, name
    return int(new - old)


def test_a_quota_is_raised_while_the_guest_runs(group: Cgroup, reader: CgroupReader, launch: Launch) -> None:
    limit(group, Limits(cpus=0.1))
    launch(*BUSY)
    wait_until(lambda: (read(reader).cpu_throttled_periods or 0) > 2, timeout_s=40)

    limit(group, Limits(cpus=0.5))

    before = read(reader)
    after = wait_until(lambda: _after_periods(before, read(reader), 10), timeout_s=40)
    share = _since(before, after, "cpu_usage_ns") / (_since(before, after, "cpu_periods") * 100_000_000)
    assert 0.15 < share < 0.65


def test_more_memory_than_the_limit_is_an_oom_kill_that_is_counted(group: Cgroup, launch: Launch) -> None:
    limit(group, Limits(memory_bytes=48 * MIB))

    process = launch.python("x = bytearray(400 << 20)")

    assert process.wait(30) == -9
    sample = full_read(group)
    assert sample.oom_kills == 1
    assert sample.memory_limit_bytes == 48 * MIB
    assert (sample.memory_max_events or 0) > 0


def test_memory_in_use_is_measured(group: Cgroup, reader: CgroupReader, launch: Launch) -> None:
    process = launch.python("import time; x = b'x' * (64 << 20); print('ready', flush=True); time.sleep(100)")

    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    assert 64 * MIB <= (read(reader).memory_bytes or 0) < 200 * MIB


@needs("cgroup2.memory")
def test_lowering_the_hard_limit_below_use_kills_and_counts_on_v2(group: Cgroup, launch: Launch) -> None:
    process = launch.python("import time; x = b'x' * (64 << 20); print('ready', flush=True); time.sleep(100)")
    assert process.stdout is not None
    process.stdout.readline()

    limit(group, Limits(memory_bytes=16 * MIB, swap_bytes=0))

    assert process.wait(30) == -9
    assert full_read(group).oom_kills == 1


@needs("cgroup2.memory")
def test_use_above_the_throttling_limit_is_counted_on_v2(group: Cgroup, launch: Launch) -> None:
    limit(group, Limits(memory_high_bytes=24 * MIB))

    launch.python("x = bytearray(40 << 20)")

    wait_until(lambda: (full_read(group).memory_high_events or 0) > 0)


def test_a_guest_cannot_have_more_tasks_than_its_limit(group: Cgroup, launch: Launch) -> None:
    limit(group, Limits(pids=10))

    process = launch.python(
        "import os, time\n"
        "for made in range(100):\n"
        "    try:\n"
        "        if os.fork() == 0: time.sleep(100)\n"
        "    except BlockingIOError: break\n"
        "print(made, flush=True); time.sleep(100)"
    )

    assert process.stdout is not None
    assert process.stdout.readline() == "9\n"
    assert full_read(group).pids == 10
    assert len(group.procs()) == 10


@needs("cgroup.freeze")
def test_a_frozen_guest_uses_no_cpu_until_it_is_thawed(group: Cgroup, reader: CgroupReader, launch: Launch) -> None:
    launch(*BUSY)
    wait_until(lambda: (read(reader).cpu_usage_ns or 0) > 20_000_000)

    group.freeze()
    assert group.is_frozen()
    still = read(reader).cpu_usage_ns
    _burn_cpu(0.1)
    assert read(reader).cpu_usage_ns == still

    group.thaw()
    assert not group.is_frozen()
    wait_until(lambda: (read(reader).cpu_usage_ns or 0) > (still or 0))


def _burn_cpu(seconds: float) -> None:
    """Give others the time to run, if anything lets them."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        os.sched_yield()


@needs("cgroup.freeze")
def test_kill_ends_a_frozen_guest(group: Cgroup, launch: Launch) -> None:
    process = launch("sleep", "100")
    group.freeze()

    group.kill()

    assert process.wait(10) == -9
    assert not group.is_populated()


def test_kill_ends_a_guest_that_keeps_forking(group: Cgroup, launch: Launch) -> None:
    limit(group, Limits(pids=40))
    launch("sh", "-c", "while :; do (sleep 100 & sleep 100 &) ; done 2> /dev/null")
    wait_until(lambda: len(group.procs()) > 20)

    group.kill(timeout_s=20)

    assert group.procs() == []


def test_processes_in_groups_that_the_guest_made_are_killed_and_removed_too(group: Cgroup, launch: Launch) -> None:
    inner = group.host.group(f"{group.path}/inner")
    Recorder("test").run_all(inner.create_steps()[-1:] if group.host.mode == "v2" else inner.create_steps())
    process = launch("sleep", "100")
    inner.enter(process.pid)
    assert group.procs() == [process.pid]

    group.kill()
    group.remove()

    assert process.wait(10) == -9
    assert not inner.exists()


def test_removing_a_group_with_a_process_in_it_says_so(group: Cgroup, launch: Launch) -> None:
    launch("sleep", "100")

    with pytest.raises(KernelRefused, match="remove the group") as caught:
        group.remove(timeout_s=0.05)

    assert caught.value.errno == errno.EBUSY


def test_a_group_that_is_gone_is_removed_without_an_error(group: Cgroup) -> None:
    group.remove()
    group.remove()

    assert not group.exists()


def test_limits_are_read_back_as_they_were_set(group: Cgroup) -> None:
    wanted = _all_limits(group.host)

    limit(group, wanted)

    assert group.limits() == wanted


def _all_limits(host: CgroupHost) -> Limits:
    """Every limit that this host has, none with its default."""
    wanted = {
        "cpus": 0.35,
        "cpu_weight": 250,
        "cpuset": "0",
        "memory_bytes": 64 * MIB,
        "memory_high_bytes": 48 * MIB,
        "swap_bytes": 16 * MIB,
        "pids": 33,
        "io_read_bytes_per_s": 10 * MIB,
        "io_write_bytes_per_s": 5 * MIB,
        "io_read_ops_per_s": 200,
        "io_write_ops_per_s": 100,
    }
    why = host.reasons()
    possible = {name: value for name, value in wanted.items() if not why[name]}
    if possible.get("cpuset") and (os.cpu_count() or 1) == 1:
        del possible["cpuset"]
    return Limits(**possible)  # type: ignore[arg-type]


def test_only_what_differs_is_written(group: Cgroup) -> None:
    wanted = _all_limits(group.host)
    limit(group, wanted)

    assert group.limit_steps(wanted) == []
    assert len(group.limit_steps(wanted.with_changes({"pids": 34}))) == 1


def test_lifting_every_limit_leaves_the_group_as_it_was_made(group: Cgroup) -> None:
    limit(group, _all_limits(group.host))

    limit(group, Limits())

    assert group.limits() == Limits()


def test_undo_puts_every_limit_back(group: Cgroup) -> None:
    before = Limits(cpus=0.5, memory_bytes=128 * MIB, pids=50)
    limit(group, before)
    steps = group.limit_steps(_all_limits(group.host))
    Recorder("test").run_all(steps)

    for step in reversed(steps):
        step.undo()

    assert group.limits() == before


@needs("limit.swap_bytes")
def test_memory_and_swap_limits_move_together_in_any_order(group: Cgroup) -> None:
    for memory, swap in ((64, 0), (256, 64), (32, 8), (512, 0), (16, 16)):
        wanted = Limits(memory_bytes=memory * MIB, swap_bytes=swap * MIB)
        limit(group, wanted)
        assert group.limits() == wanted


@pytest.mark.parametrize("cpus", [0.001, 0.0055, 0.01, 0.333, 1.5, 64.0])
def test_quotas_from_the_smallest_to_many_cores_are_taken(group: Cgroup, cpus: float) -> None:
    limit(group, Limits(cpus=cpus))

    assert group.limits().cpus == pytest.approx(cpus, rel=0.01)


def test_sizes_are_rounded_to_pages_as_the_kernel_does(group: Cgroup) -> None:
    limit(group, Limits(memory_bytes=64 * MIB + 100))

    assert group.limits().memory_bytes == 64 * MIB
    assert group.limit_steps(Limits(memory_bytes=64 * MIB + 100)) == []


@needs("cgroup.cpuset")
def test_a_guest_runs_on_the_cpus_it_is_given(group: Cgroup, launch: Launch) -> None:
    process = launch("sleep", "100")

    limit(group, Limits(cpuset="0"))

    assert os.sched_getaffinity(process.pid) == {0}
    limit(group, Limits())
    assert os.sched_getaffinity(process.pid) == set(range(os.cpu_count() or 1))


@needs("cgroup.cpuset")
def test_a_cpu_that_does_not_exist_is_named(group: Cgroup) -> None:
    with pytest.raises(UsageError, match="there is no CPU 4000"):
        group.limit_steps(Limits(cpuset="0,4000"))


@needs("disk", "limit.io_write_bytes_per_s")
def test_direct_writes_are_held_to_the_bytes_per_second(group: Cgroup, launch: Launch) -> None:
    limit(group, Limits(io_write_bytes_per_s=2 * MIB))
    with _scratch_file() as path:
        began = time.monotonic()

        process = launch("dd", "if=/dev/zero", f"of={path}", "bs=256k", "count=16", "oflag=direct", "status=none")
        assert process.wait(40) == 0

        # 4 MiB at 2 MiB/s take 2 s; the kernel lets the first slice of them go at once.
        assert time.monotonic() - began > 1.2
    assert (full_read(group).io_write_bytes or 0) >= 4 * MIB
    assert (full_read(group).io_write_ops or 0) >= 16


@needs("disk", "limit.io_devices")
def test_direct_reads_of_one_device_are_held_to_the_operations_per_second(group: Cgroup, launch: Launch) -> None:
    with _scratch_file() as path:
        Path(path).write_bytes(os.urandom(MIB))
        os.sync()
        limit(group, Limits(io_devices=(DeviceIo(_device_of(path), read_ops_per_s=20),)))
        began = time.monotonic()

        process = launch("dd", f"if={path}", "of=/dev/null", "bs=16k", "count=40", "iflag=direct", "status=none")
        assert process.wait(40) == 0

        assert time.monotonic() - began > 1.2
    assert (full_read(group).io_read_bytes or 0) >= 40 * 16384


class _scratch_file:
    """A file name on a real disk, removed at the end."""

    def __enter__(self) -> str:
        folder = disk_folder()
        assert folder is not None
        self._path = folder / f"innkeeper-test-{secrets.token_hex(6)}"
        return str(self._path)

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)


def _device_of(path: str) -> str:
    from backends.kernel import block

    disk = block.disk_holding(str(Path(path).parent))
    assert disk is not None
    return disk.path


@needs("psi")
def test_pressure_grows_where_the_kernel_counts_it_and_is_unknown_elsewhere(
    host: CgroupHost, group: Cgroup, reader: CgroupReader, launch: Launch
) -> None:
    if host.unified is None:
        assert read(reader).cpu_pressure_us is None
        return
    limit(group, Limits(cpus=0.1))
    before = read(reader).cpu_pressure_us
    assert before is not None

    launch(*BUSY)

    wait_until(lambda: (read(reader).cpu_pressure_us or 0) > before + 50_000)


def test_what_this_host_does_not_count_is_unknown_and_never_zero(host: CgroupHost, group: Cgroup) -> None:
    sample = full_read(group)
    has_pressure = host.unified is not None and Path("/proc/pressure").exists()
    memory = host.hierarchy("memory")

    assert (sample.io_pressure_us is not None) == has_pressure
    assert (sample.memory_high_events is not None) == (memory is not None and memory.version == 2)
    assert (sample.swap_bytes is not None) == (not host.reasons()["swap_bytes"])
    assert sample.cpu_delay_ns is None
    assert (sample.memory_bytes, sample.pids, sample.oom_kills) == (0, 0, 0)


def test_a_process_is_found_in_its_group(host: CgroupHost, group: Cgroup, launch: Launch) -> None:
    process = launch("sleep", "100")

    found = host.group_of(process.pid)

    assert found.directories == group.directories
    assert found.path == group.path
    assert [p.pid for p in procfs.guest_processes(found.procs())] == [process.pid]


def test_a_process_that_is_gone_cannot_enter_nor_be_found(host: CgroupHost, group: Cgroup) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()

    with pytest.raises(ProcessLookupError):
        group.enter(gone.pid)
    with pytest.raises(GuestVanished, match="has gone"):
        host.group_of(gone.pid)


def test_a_reader_says_that_the_guest_is_gone(group: Cgroup, reader: CgroupReader) -> None:
    read(reader)
    group.remove()

    with pytest.raises(GuestVanished, match="is gone"):
        read(reader)
    with pytest.raises(GuestVanished):
        group.reader()
    with pytest.raises(GuestVanished):
        group.limits()


def test_writing_a_limit_to_a_vanished_cgroup_says_the_guest_is_gone(group: Cgroup) -> None:
    steps = group.limit_steps(Limits(pids=20))
    group.remove()

    with pytest.raises(GuestVanished, match="is gone"):
        steps[0].run()
    steps[0].undo()


def test_a_closed_reader_leaves_no_descriptor(group: Cgroup) -> None:
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(20):
        reader = group.reader()
        read(reader)
        reader.close()
        reader.close()

    assert len(os.listdir("/proc/self/fd")) == before


def test_undoing_the_creation_leaves_nothing(host: CgroupHost, group: Cgroup) -> None:
    other = host.group(f"{group.path.partition('/')[0]}/other")
    steps = other.create_steps()
    Recorder("test").run_all(steps)
    assert other.exists()

    for step in reversed(steps):
        step.undo()

    assert not other.exists()


def test_each_step_can_be_done_by_hand(host: CgroupHost, group: Cgroup, launch: Launch) -> None:
    other = host.group(f"{group.path.partition('/')[0]}/other")
    process = launch("sleep", "100")
    wanted = Limits(cpus=0.5, memory_bytes=64 * MIB, pids=20)
    steps = [*other.create_steps(), *other.limit_steps(wanted), *other.enter_steps(process.pid)]

    script = "set -e\n" + "\n".join(step.by_hand() for step in steps)
    subprocess.run(["sh", "-c", script], check=True)

    assert other.limits() == wanted
    assert other.procs() == [process.pid]
