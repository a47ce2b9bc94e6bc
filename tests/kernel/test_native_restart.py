"""Restart policies: containers that come back by themselves, and those that are left alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.container import RestartPolicy
from backends.errors import UsageError, WrongState
from backends.model import Guest, GuestState
from backends.native import restart
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.kernel.test_native_survival import kill_and_wait, spawner_pid, supervisor_pid
from tests.tools.containers import log_of, now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(60)]
Run = Callable[..., Guest]
R = Recorder("test")
ALWAYS = RestartPolicy("always")
FOREVER = ("sh", "-c", "echo up; exec sleep 1000")


def comes_back(native: NativeBackend, guest: Guest, before: int | None) -> Guest:
    """Wait until it runs with another first process, and return it."""

    def found() -> Guest | None:
        there = now(native, guest)
        return there if there.state is GuestState.RUNNING and there.pid not in (None, before) else None

    return wait_until(found, what=f"another start of {guest.name}; it is {now(native, guest)}")


@pytest.mark.parametrize(
    "text, policy",
    [
        ("no", RestartPolicy()),
        ("on-failure", RestartPolicy("on-failure")),
        ("on-failure:3", RestartPolicy("on-failure", 3)),
        ("on-failure:0", RestartPolicy("on-failure")),
        ("unless-stopped", RestartPolicy("unless-stopped")),
    ],
)
def test_a_policy_is_read_from_what_the_user_writes(text: str, policy: RestartPolicy) -> None:
    assert RestartPolicy.parse(text) == policy


@pytest.mark.parametrize("text", ["", "sometimes", "always:3", "on-failure:", "on-failure:x", "on-failure:-1"])
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="restart policy"):
        RestartPolicy.parse(text)


def test_the_pause_doubles_up_to_a_minute() -> None:
    pauses = [0.0]
    for _ in range(12):
        pauses.append(restart.pause_after(pauses[-1]))
    assert pauses[1:4] == [0.1, 0.2, 0.4]
    assert pauses[-2:] == [60.0, 60.0]


def test_a_program_that_ends_is_started_again_in_the_same_supervisor_with_one_log(
    native: NativeBackend, run: Run
) -> None:
    guest = run(*FOREVER, restart=ALWAYS)
    wait_until(lambda: log_of(native, guest) == "up\n")
    first = now(native, guest)
    keeper = supervisor_pid(native, guest)
    assert first.pid is not None

    os.kill(first.pid, signal.SIGKILL)

    again = comes_back(native, guest, first.pid)
    assert (again.restarts, again.restart_policy, again.addresses) == (1, "always", first.addresses)
    assert supervisor_pid(native, guest) == keeper
    wait_until(lambda: log_of(native, guest) == "up\nup\n")


def test_it_is_restarting_between_two_starts_and_can_then_be_stopped(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "exit 3", restart=ALWAYS)
    there = wait_until(lambda: found if (found := now(native, guest)).state is GuestState.RESTARTING else None)
    assert (there.exit_code, there.pid) == (3, None)
    wait_until(lambda: now(native, guest).restarts >= 3)  # then the pauses are long
    wait_until(lambda: now(native, guest).state is GuestState.RESTARTING)
    with pytest.raises(WrongState, match="restarting"):
        native.pause(guest.ref, R)

    native.stop(guest.ref, R)

    assert now(native, guest).state is GuestState.STOPPED
    assert not native._store.is_supervised(guest.ref.id)


def test_one_that_waits_for_its_start_can_be_started_at_once_and_removed(native: NativeBackend, run: Run) -> None:
    line = "test -e /root/again && exec sleep 1000; touch /root/again; exit 1"
    guest = run("sh", "-c", line, restart=ALWAYS)
    policy = RestartPolicy("on-failure")
    comes_back(native, guest, None)
    native.set_restart_policy(guest.ref, policy, R)
    assert now(native, guest).restart_policy == "on-failure"
    failing = run("sh", "-c", "exit 1", restart=ALWAYS)
    wait_until(lambda: now(native, failing).restarts >= 4)
    wait_until(lambda: now(native, failing).state is GuestState.RESTARTING)
    native.start(failing.ref, R)
    with pytest.raises(WrongState, match=r"restarting|running"):
        native.remove(failing.ref, R)
    native.remove(failing.ref, R, force=True)
    assert failing.ref not in [other.ref for other in native.guests()]


def test_on_failure_gives_up_after_as_many_tries_as_it_was_given(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "echo run; exit 4", restart=RestartPolicy("on-failure", 2))
    wait_until(lambda: now(native, guest).state is GuestState.STOPPED)
    assert (now(native, guest).exit_code, now(native, guest).restarts) == (4, 2)
    assert log_of(native, guest) == "run\n" * 3


def test_on_failure_leaves_a_program_alone_that_did_its_work(native: NativeBackend, run: Run) -> None:
    guest = run("true", restart=RestartPolicy("on-failure"))
    assert native.wait(guest.ref, timeout_s=30) == 0
    wait_until(lambda: now(native, guest).state is GuestState.STOPPED)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_its_user_ended_stays_ended(native: NativeBackend, run: Run, end: str) -> None:
    guest = run(*FOREVER, restart=ALWAYS)
    wait_until(lambda: "up" in log_of(native, guest))
    if end == "stop":
        native.stop(guest.ref, R, timeout_s=0)
    else:
        native.kill(guest.ref, R)
    native.wait(guest.ref, timeout_s=30)
    wait_until(lambda: now(native, guest).state is GuestState.STOPPED)
    assert native.inspect(guest.ref)["state"]["ended_by"] == "user"


def test_a_policy_can_be_taken_away_while_it_waits(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "exit 1", restart=ALWAYS)
    wait_until(lambda: now(native, guest).restarts >= 3)
    native.set_restart_policy(guest.ref, RestartPolicy(), R)
    wait_until(lambda: now(native, guest).state is GuestState.STOPPED)


def test_waiting_returns_at_each_end(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "sleep 0.2; exit 6", restart=ALWAYS)
    assert native.wait(guest.ref, timeout_s=30) == 6
    assert native.wait(guest.ref, timeout_s=30) == 6
    native.stop(guest.ref, R, timeout_s=0)


def test_it_comes_back_after_the_spawners_death(native: NativeBackend, run: Run, root: Path) -> None:
    guest = run(*FOREVER, restart=ALWAYS)
    kill_and_wait(spawner_pid(root))
    before = now(native, guest).pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    comes_back(native, guest, before)


def test_the_spawner_gives_it_a_new_supervisor_when_its_own_dies(native: NativeBackend, run: Run) -> None:
    guest = run(*FOREVER, restart=ALWAYS)
    before, keeper = now(native, guest).pid, supervisor_pid(native, guest)
    kill_and_wait(keeper)
    again = comes_back(native, guest, before)
    assert again.restarts == 1
    assert supervisor_pid(native, guest) != keeper


def test_without_spawner_and_supervisor_the_next_look_brings_it_back(
    native: NativeBackend, run: Run, root: Path
) -> None:
    guest = run(*FOREVER, restart=RestartPolicy("unless-stopped"))
    before, keeper = now(native, guest).pid, supervisor_pid(native, guest)
    kill_and_wait(spawner_pid(root))
    kill_and_wait(keeper)
    comes_back(native, guest, before)


def test_a_spawner_that_came_later_watches_the_supervisors_of_the_one_before(
    native: NativeBackend, run: Run, root: Path
) -> None:
    guest = run(*FOREVER, restart=ALWAYS)
    before, keeper = now(native, guest).pid, supervisor_pid(native, guest)
    kill_and_wait(spawner_pid(root))
    run("true")  # which brings another spawner up
    kill_and_wait(keeper)
    comes_back(native, guest, before)


def test_one_without_a_policy_is_not_brought_back(native: NativeBackend, run: Run) -> None:
    guest = run(*FOREVER)
    kill_and_wait(supervisor_pid(native, guest))
    wait_until(lambda: now(native, guest).state is GuestState.STOPPED)


def test_an_out_of_memory_kill_is_told_of_after_the_next_start_too(native: NativeBackend, run: Run) -> None:
    line = "test -e /root/again && exec sleep 1000; touch /root/again; exec tail /dev/zero"
    guest = run("sh", "-c", line, memory_bytes=32 * 1024**2, restart=RestartPolicy("on-failure", 5))

    def actions() -> list[str]:
        return [event.action for event in native.events(since_s=0.0) if event.ref == guest.ref]

    wait_until(lambda: actions().count("start") == 2)
    assert actions() == ["create", "start", "oom", "die", "start"]
    assert native.inspect(guest.ref)["state"]["restarts"] == 1


def test_a_kill_for_want_of_memory_is_told_while_the_container_lives_on(native: NativeBackend, run: Run) -> None:
    line = "echo up; read x; (exec tail /dev/zero); echo survived; exec sleep 1000"
    guest = run("sh", "-c", line, memory_bytes=32 * 1024**2, stdin=True)
    session = native.attach(guest.ref)
    session.write(b"go\n")
    session.close()
    wait_until(lambda: "survived" in log_of(native, guest))

    def killed() -> int:
        events = [event for event in native.events(since_s=0.0) if event.ref == guest.ref and event.action == "oom"]
        return sum(int(event.attributes["kills"]) for event in events)

    wait_until(lambda: killed() == 1)
    native.kill(guest.ref, R)
    native.wait(guest.ref, timeout_s=30)
    assert killed() == 1
    assert now(native, guest).oom_kills == 1
