"""What becomes of a guest after each verb, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backends.capabilities import (
    Lifecycle,
    Limiting,
    Logging,
    Pausing,
    Processes,
    Removing,
    Renaming,
    Snapshotting,
    Waiting,
)
from backends.errors import AlreadyExists, NotFound, TimedOut, UsageError, WrongState
from backends.model import GuestKind, GuestRef, GuestState
from tests.contract.conftest import Subject, recorder

PATIENCE_S = 5.0


def test_start_makes_it_run(subject: Subject) -> None:
    guest = subject.guest()

    subject.having(Lifecycle).start(guest.ref, recorder())

    assert subject.look(guest.ref).state is GuestState.RUNNING


def test_stop_ends_it_and_a_container_has_an_exit_code(subject: Subject) -> None:
    live = subject.live()

    subject.having(Lifecycle).stop(live.ref, recorder(), timeout_s=PATIENCE_S)

    stopped = subject.look(live.ref)
    assert stopped.state is GuestState.STOPPED
    assert stopped.pid is None
    assert (stopped.exit_code is not None) == (live.kind is GuestKind.CONTAINER)


def test_kill_ends_it_at_once(subject: Subject) -> None:
    live = subject.live()

    subject.having(Lifecycle).kill(live.ref, recorder(), signal=9)

    subject.state_becomes(live.ref, GuestState.STOPPED)
    if live.kind is GuestKind.CONTAINER:
        assert subject.look(live.ref).exit_code == 137


def test_it_can_be_started_again_and_again(subject: Subject) -> None:
    live = subject.live()
    backend = subject.having(Lifecycle)

    for _ in range(3):
        backend.stop(live.ref, recorder(), timeout_s=PATIENCE_S)
        backend.start(live.ref, recorder())

    assert subject.look(live.ref).state is GuestState.RUNNING


def test_restart_makes_it_run_again(subject: Subject) -> None:
    live = subject.live()

    subject.having(Lifecycle, "restart", live).restart(live.ref, recorder(), timeout_s=PATIENCE_S)

    subject.state_becomes(live.ref, GuestState.RUNNING)
    if live.kind is GuestKind.CONTAINER:
        assert subject.look(live.ref).pid != live.pid


def test_pause_freezes_it_and_resume_lets_it_go_on(subject: Subject) -> None:
    live = subject.live()
    backend = subject.having(Pausing, "pause", live)

    backend.pause(live.ref, recorder())
    assert subject.look(live.ref).state is GuestState.PAUSED
    backend.resume(live.ref, recorder())

    assert subject.look(live.ref).state is GuestState.RUNNING


def test_a_paused_guest_can_be_killed(subject: Subject) -> None:
    live = subject.live()
    subject.having(Pausing, "pause", live).pause(live.ref, recorder())

    subject.having(Lifecycle).kill(live.ref, recorder())

    subject.state_becomes(live.ref, GuestState.STOPPED)


def test_a_paused_guest_can_be_removed_by_force(subject: Subject) -> None:
    live = subject.live()
    subject.having(Pausing, "pause", live).pause(live.ref, recorder())

    subject.having(Removing).remove(live.ref, recorder(), force=True)

    assert live.ref not in {guest.ref for guest in subject.backend.guests()}


def test_wait_brings_the_exit_code_or_runs_out_of_time(subject: Subject) -> None:
    live = subject.live()
    backend = subject.having(Waiting)
    with pytest.raises(TimedOut):
        backend.wait(live.ref, timeout_s=0.05)
    subject.having(Lifecycle).kill(live.ref, recorder())

    code = backend.wait(live.ref, timeout_s=PATIENCE_S)

    assert code == (137 if live.kind is GuestKind.CONTAINER else None)


def test_a_live_guest_is_removed_only_by_force(subject: Subject) -> None:
    live = subject.live()
    backend = subject.having(Removing)
    with pytest.raises(WrongState):
        backend.remove(live.ref, recorder())
    assert subject.look(live.ref).state is GuestState.RUNNING

    backend.remove(live.ref, recorder(), force=True)

    assert live.ref not in {guest.ref for guest in subject.backend.guests()}
    with pytest.raises(NotFound):
        subject.backend.inspect(live.ref)


def test_a_stopped_guest_is_removed_without_force(subject: Subject) -> None:
    guest = subject.guest()

    subject.having(Removing).remove(guest.ref, recorder())

    assert guest.ref not in {one.ref for one in subject.backend.guests()}


def test_rename_keeps_the_reference(subject: Subject) -> None:
    guest = subject.guest("contract-before")

    subject.having(Renaming).rename(guest.ref, "contract-after", recorder())

    assert subject.look(guest.ref).name == "contract-after"
    assert "contract-before" not in {one.name for one in subject.backend.guests()}


def test_a_name_that_is_taken_is_refused(subject: Subject) -> None:
    first, second = subject.guest("contract-first"), subject.guest("contract-second")

    with pytest.raises(AlreadyExists):
        subject.having(Renaming).rename(second.ref, "contract-first", recorder())

    assert [subject.look(one.ref).name for one in (first, second)] == ["contract-first", "contract-second"]


def test_an_empty_name_is_refused(subject: Subject) -> None:
    guest = subject.guest()

    with pytest.raises(UsageError):
        subject.having(Renaming).rename(guest.ref, "", recorder())

    assert subject.look(guest.ref).name == guest.name


def test_a_name_that_was_given_up_can_be_taken_by_another(subject: Subject) -> None:
    first, second = subject.guest("contract-first"), subject.guest("contract-second")
    backend = subject.having(Renaming)
    backend.rename(first.ref, "contract-third", recorder())

    backend.rename(second.ref, "contract-first", recorder())

    assert subject.look(second.ref).name == "contract-first"


@pytest.mark.parametrize("verb", ["start", "resume"])
def test_a_running_guest_refuses_to(subject: Subject, verb: str) -> None:
    live = subject.live()
    backend = subject.having(Lifecycle if verb == "start" else Pausing)

    with pytest.raises(WrongState):
        getattr(backend, verb)(live.ref, recorder())

    assert subject.look(live.ref).state is GuestState.RUNNING


@pytest.mark.parametrize("verb", ["stop", "kill", "pause", "resume"])
def test_a_stopped_guest_refuses_to(subject: Subject, verb: str) -> None:
    guest = subject.guest()
    backend = subject.having(Lifecycle if verb in ("stop", "kill") else Pausing)

    with pytest.raises(WrongState):
        getattr(backend, verb)(guest.ref, recorder())

    assert subject.look(guest.ref).state is guest.state


ON_NOBODY: dict[str, tuple[type[Any], Callable[[Any, GuestRef], object]]] = {
    "inspect": (object, lambda backend, ref: backend.inspect(ref)),
    "start": (Lifecycle, lambda backend, ref: backend.start(ref, recorder())),
    "stop": (Lifecycle, lambda backend, ref: backend.stop(ref, recorder())),
    "kill": (Lifecycle, lambda backend, ref: backend.kill(ref, recorder())),
    "restart": (Lifecycle, lambda backend, ref: backend.restart(ref, recorder())),
    "pause": (Pausing, lambda backend, ref: backend.pause(ref, recorder())),
    "resume": (Pausing, lambda backend, ref: backend.resume(ref, recorder())),
    "wait": (Waiting, lambda backend, ref: backend.wait(ref, timeout_s=PATIENCE_S)),
    "rename": (Renaming, lambda backend, ref: backend.rename(ref, "contract-x", recorder())),
    "remove": (Removing, lambda backend, ref: backend.remove(ref, recorder(), force=True)),
    "limits": (Limiting, lambda backend, ref: backend.limits(ref)),
    "set_limits": (Limiting, lambda backend, ref: backend.set_limits(ref, {"cpus": 0.5}, recorder())),
    "snapshots": (Snapshotting, lambda backend, ref: backend.snapshots(ref)),
    "snapshot_create": (Snapshotting, lambda backend, ref: backend.snapshot_create(ref, "s", recorder())),
    "snapshot_restore": (Snapshotting, lambda backend, ref: backend.snapshot_restore(ref, "s", recorder())),
    "snapshot_remove": (Snapshotting, lambda backend, ref: backend.snapshot_remove(ref, "s", recorder())),
    "logs": (Logging, lambda backend, ref: list(backend.logs(ref))),
    "processes": (Processes, lambda backend, ref: backend.processes(ref)),
}


@pytest.mark.parametrize("verb", ON_NOBODY)
def test_a_guest_that_does_not_exist_is_not_found(subject: Subject, verb: str) -> None:
    capability, act = ON_NOBODY[verb]
    backend = subject.having(capability)
    nobody = GuestRef(backend.name, "00000000-0000-4000-8000-00000000dead")

    with pytest.raises(NotFound):
        act(backend, nobody)
