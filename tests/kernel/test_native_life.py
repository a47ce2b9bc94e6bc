"""The life of real containers on this kernel."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest

from backends.container import ContainerSpec
from backends.errors import AlreadyExists, InnkeeperError, NotFound, StartFailed, TimedOut, UsageError, WrongState
from backends.model import Guest, GuestRef, GuestState
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import log_of, now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.shared_state, pytest.mark.timeout(120)]
Run = Callable[..., Guest]
R = Recorder("test")


@pytest.mark.parametrize("line,code", [("exit 0", 0), ("exit 3", 3), ("kill -9 $$; exit 4", 4), ("exit 255", 255)])
def test_the_exit_code_is_that_of_the_program(native: NativeBackend, run: Run, line: str, code: int) -> None:
    # As pid 1 of its namespace a program cannot be killed from inside, not even by itself.
    guest = run("sh", "-c", line)
    assert native.wait(guest.ref, timeout_s=60) == code
    assert now(native, guest).state is GuestState.STOPPED
    assert native.inspect(guest.ref)["state"]["exit_code"] == code


@pytest.mark.parametrize(
    "program,code,words",
    [("no-such-program", 127, "not found"), ("/etc", 126, "is a directory"), ("/etc/passwd", 126, "permission denied")],
)
def test_a_program_that_cannot_run_is_told_as_docker_tells_it(
    native: NativeBackend, program: str, code: int, words: str
) -> None:
    guest = native.create(ContainerSpec("host", (program,)), R)
    with pytest.raises(StartFailed, match=words) as caught:
        native.start(guest.ref, R)
    assert caught.value.exit_code == code
    assert now(native, guest).state is GuestState.CREATED
    assert now(native, guest).exit_code == code


def test_stop_sends_the_stop_signal_and_the_program_decides_its_exit_code(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done")
    wait_until(lambda: "up" in log_of(native, guest))
    native.stop(guest.ref, R)
    assert now(native, guest).exit_code == 5
    assert "bye" in log_of(native, guest)


def test_stop_kills_all_of_a_container_that_does_not_end_in_time(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "trap '' TERM; sleep 1000 & while :; do sleep 1; done")
    native.stop(guest.ref, R, timeout_s=0.2)
    assert now(native, guest).exit_code == 137
    assert now(native, guest).note == "killed by SIGKILL"


def test_another_stop_signal_can_be_chosen(native: NativeBackend, run: Run) -> None:
    line = "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done"
    guest = run("sh", "-c", line, stop_signal="SIGUSR1")
    wait_until(lambda: "up" in log_of(native, guest))
    native.stop(guest.ref, R)
    assert now(native, guest).exit_code == 9


def test_kill_ends_it_with_128_and_the_signal(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    native.kill(guest.ref, R)
    assert native.wait(guest.ref, timeout_s=30) == 128 + signal.SIGKILL


def test_a_stopped_container_starts_again_with_its_files_and_one_log(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "echo run >> /root/runs; cat /root/runs | wc -l")
    native.wait(guest.ref, timeout_s=30)
    native.start(guest.ref, R)
    native.wait(guest.ref, timeout_s=30)
    assert log_of(native, guest) == "1\n2\n"


def test_restart_stops_and_starts(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    before = now(native, guest).pid
    native.restart(guest.ref, R, timeout_s=0.1)
    assert now(native, guest).state is GuestState.RUNNING
    assert now(native, guest).pid != before


def test_a_paused_container_uses_no_cpu_and_goes_on_when_resumed(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "while :; do :; done")
    native.pause(guest.ref, R)
    assert now(native, guest).state is GuestState.PAUSED
    native.guests()
    used = native.sample()[guest.ref].cpu_usage_ns
    with pytest.raises(TimedOut):
        native.wait(guest.ref, timeout_s=0.3)
    assert native.sample()[guest.ref].cpu_usage_ns == used
    native.resume(guest.ref, R)
    assert now(native, guest).state is GuestState.RUNNING
    wait_until(lambda: (native.sample()[guest.ref].cpu_usage_ns or 0) > (used or 0))


def test_a_paused_container_can_be_killed_and_stopped(native: NativeBackend, run: Run) -> None:
    for end in (native.kill, native.stop):
        guest = run("sleep", "1000")
        native.pause(guest.ref, R)
        if end is native.stop:
            native.stop(guest.ref, R, timeout_s=0.1)
        else:
            native.kill(guest.ref, R)
        assert native.wait(guest.ref, timeout_s=30) == 137


def test_verbs_say_why_a_state_does_not_allow_them(native: NativeBackend, run: Run) -> None:
    guest = run("true")
    native.wait(guest.ref, timeout_s=30)
    for verb in (native.stop, native.kill, native.pause, native.resume):
        with pytest.raises(WrongState, match="stopped"):
            verb(guest.ref, R)
    with pytest.raises(NotFound):
        native.start(GuestRef("native", "0" * 12), R)


def test_remove_refuses_a_running_container_unless_forced(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    with pytest.raises(WrongState, match="running"):
        native.remove(guest.ref, R)
    native.remove(guest.ref, R, force=True)
    assert native.guests() == []


def test_names_are_unique_and_can_be_changed(native: NativeBackend, run: Run) -> None:
    first, second = run("true", name="first"), run("true", name="second")
    with pytest.raises(AlreadyExists):
        run("true", name="first")
    with pytest.raises(AlreadyExists):
        native.rename(second.ref, "first", R)
    native.rename(first.ref, "third", R)
    native.rename(second.ref, "first", R)
    assert {guest.name for guest in native.guests()} == {"first", "third"}
    for bad in ("", "../x", "a b", "-x", "x" * 129):
        with pytest.raises(UsageError):
            native.rename(first.ref, bad, R)


def test_a_container_that_asks_for_it_is_removed_when_it_ends(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000", auto_remove=True)
    native.kill(guest.ref, R)
    wait_until(lambda: guest.ref not in [other.ref for other in native.guests()])
    assert native.clean(R) == []


def test_containers_on_the_bridge_reach_each_other(
    native: NativeBackend, run: Run, output_of: Callable[..., str]
) -> None:
    listen = "import socket; s = socket.create_server(('', 7)); print('up', flush=True); print(s.accept()[1][0])"
    server = run("python3", "-c", listen)
    wait_until(lambda: "up" in log_of(native, server), timeout_s=30)
    client = run("sleep", "1000")
    output_of(client, f"bash -c 'echo > /dev/tcp/{server.addresses[0]}/7'")
    native.wait(server.ref, timeout_s=30)
    assert log_of(native, server) == f"up\n{client.addresses[0]}\n"


def test_a_container_without_a_network_has_only_its_loopback(
    native: NativeBackend, run: Run, output_of: Callable[..., str]
) -> None:
    guest = run("sleep", "1000", network="none")
    assert output_of(guest, "ls /sys/class/net") == "lo\n"
    assert guest.addresses == ()


def test_ten_starts_at_once_all_come_up_and_each_has_its_own_address(native: NativeBackend) -> None:
    made = [native.create(ContainerSpec("host", ("sleep", "1000")), R) for _ in range(10)]
    threads = [threading.Thread(target=native.start, args=(guest.ref, R)) for guest in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    guests = native.guests()
    assert [guest.state for guest in guests] == [GuestState.RUNNING] * 10
    assert len({guest.addresses for guest in guests}) == 10


def test_of_two_starts_at_once_one_wins_and_the_other_says_it_runs(native: NativeBackend) -> None:
    guest = native.create(ContainerSpec("host", ("sleep", "1000")), R)
    errors: list[InnkeeperError] = []

    def start() -> None:
        try:
            native.start(guest.ref, R)
        except InnkeeperError as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(errors) == 3
    assert now(native, guest).state is GuestState.RUNNING


def test_each_step_of_a_start_is_recorded_by_the_process_that_did_it(native: NativeBackend, run: Run) -> None:
    guest = run("true", cpus=0.5)
    native.wait(guest.ref, timeout_s=30)
    records = native.trace(guest.ref)
    assert {"supervisor", "init"} == {record.process for record in records}
    assert {"mount", "unshare", "pivot_root", "seccomp", "veth", "write", "capabilities"} <= {r.kind for r in records}
    assert all(record.duration_s >= 0 and not record.error for record in records)


def test_the_plan_that_is_explained_is_the_one_that_runs(native: NativeBackend) -> None:
    asked = ContainerSpec("host", ("true",), name="example")
    explained = [(process, step.kind) for process, step in native.explain(asked)]
    assert native.guests() == []
    guest = native.create(asked, R)
    native.start(guest.ref, R)
    ran = [(record.process, record.kind) for record in native.trace(guest.ref)]
    # Supervisor and init work at the same time; each does its own steps in the order of the plan.
    for name in ("supervisor", "init"):
        assert [step for step in ran if step[0] == name] == [step for step in explained if step[0] == name]
