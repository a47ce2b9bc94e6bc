"""Commands become operations: in order on one guest, side by side on several."""

from __future__ import annotations

import errno
import os

import pytest

from app.core.workstation import Workstation
from backends.container import ContainerSpec
from backends.errors import InnkeeperError, NotFound, TimedOut, Unsupported, UsageError, WrongState
from backends.events import GuestChanged, OperationEnded, OperationStarted, StepDone
from backends.model import Guest, GuestRef, GuestState
from backends.simulated.backend import SimulatedBackend
from backends.trace import Recorder
from tests.tools.waiting import wait_until
from tests.unit.core.conftest import Heard, Open, guest_of


def test_submit_returns_at_once_and_wait_brings_the_end(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    backend.faults.hang("stop")

    operation = station.submit("guest.stop", guest.ref)

    assert not operation.is_done
    assert operation.title == f"stop {guest.name}"
    assert station.fleet.pending(guest.ref) == "guest.stop"
    with pytest.raises(TimedOut):
        operation.wait(0.01)
    backend.faults.release()
    operation.wait(5)
    assert station.fleet.pending(guest.ref) is None
    assert operation.ended_s is not None


def test_the_new_state_is_seen_before_the_end_of_the_operation_is_told(
    open_station: Open, backend: SimulatedBackend
) -> None:
    station = open_station(backend, interval_s=1000.0)
    guest = guest_of(station)
    heard = Heard(station)

    operation = station.submit("guest.stop", guest.ref)
    operation.wait(5)
    wait_until(lambda: heard.of(OperationEnded))

    wanted = (OperationStarted, StepDone, GuestChanged, OperationEnded)
    assert [type(event) for event in heard.of(*wanted)] == list(wanted)
    assert [record.kind for record in operation.records] == ["stop"]
    assert {event.operation_id for event in heard.of(OperationStarted, StepDone, OperationEnded)} == {operation.id}


def test_operations_on_one_guest_run_one_after_the_other_in_order(
    open_station: Open, backend: SimulatedBackend
) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    backend.faults.hang("stop")
    first = station.submit("guest.stop", guest.ref)
    wait_until(lambda: backend.faults.hung)

    later = [station.submit(name, guest.ref) for name in ("guest.start", "guest.pause", "guest.resume")]
    station.submit("snapshot.create", guest_of_other(station, guest.ref), name="meanwhile").wait(5)

    assert not any(operation.is_done for operation in later)
    backend.faults.release()
    for operation in (first, *later):
        operation.wait(5)
    kinds = [record.kind for record in backend.trace(guest.ref)]
    assert kinds == ["stop", "start", "pause", "resume"]


def guest_of_other(station: Workstation, ref: GuestRef) -> GuestRef:
    return next(guest.ref for guest in station.fleet.guests() if guest.ref != ref)


def test_at_most_max_parallel_operations_run_at_once(open_station: Open) -> None:
    backend = SimulatedBackend(guests=12)
    station = open_station(backend, sampling=False)
    station.refresh()
    backend.faults.hang("snapshot_create")

    operations = [station.submit("snapshot.create", guest.ref, name="s") for guest in station.fleet.guests()]
    wait_until(lambda: backend.faults.hung == backend.max_parallel)
    assert backend.faults.calls["snapshot_create"] == backend.max_parallel
    backend.faults.release()

    for operation in operations:
        operation.wait(5)


def test_a_refusal_is_the_operations_error(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)

    operation = station.submit("guest.resume", guest.ref)

    with pytest.raises(WrongState):
        operation.wait(5)
    assert isinstance(operation.error, WrongState)


class Faulty(SimulatedBackend):
    """A verb of it has a fault."""

    def pause(self, ref: GuestRef, recorder: Recorder) -> None:
        raise KeyError("a fault of the backend")


def test_a_fault_in_a_verb_is_the_operations_error_and_the_thread_lives_on(open_station: Open) -> None:
    station = open_station(Faulty(guests=3))
    guest = guest_of(station)

    with pytest.raises(InnkeeperError, match="a fault of the backend"):
        station.submit("guest.pause", guest.ref).wait(5)

    station.submit("guest.stop", guest.ref).wait(5)


def test_unknown_commands_backends_and_arguments_are_refused(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)

    with pytest.raises(UsageError, match="no command"):
        station.submit("guest.fly", guest.ref)
    with pytest.raises(UsageError, match="no backend"):
        station.submit("guest.stop", GuestRef("docker", "1"))
    with pytest.raises(UsageError, match="no argument 'gently'"):
        station.submit("guest.stop", guest.ref, gently=True).wait(5)
    with pytest.raises(UsageError, match="needs an argument: name"):
        station.submit("guest.rename", guest.ref).wait(5)
    with pytest.raises(UsageError, match="which limit"):
        station.submit("guest.limit", guest.ref).wait(5)
    with pytest.raises(NotFound):
        station.submit("guest.stop", GuestRef("simulated", "gone")).wait(5)


class Limited(SimulatedBackend):
    """Says that its guests can never be paused."""

    def why_not(self, verb: str, guest: Guest) -> str | None:
        return "it has no freezer" if verb == "pause" else None


def test_what_the_backend_can_never_do_is_refused_with_its_reason(open_station: Open) -> None:
    station = open_station(Limited(guests=3))

    with pytest.raises(Unsupported, match="it has no freezer"):
        station.submit("guest.pause", guest_of(station).ref).wait(5)


def test_a_container_that_is_created_is_in_the_fleet_when_the_operation_ends(
    open_station: Open, backend: SimulatedBackend
) -> None:
    for sampling in (False, True):
        station = open_station(backend, sampling=sampling)

        guest = station.submit("guest.create", spec=ContainerSpec("base", name=f"fresh-{sampling}")).wait(5)

        assert isinstance(guest, Guest)
        assert station.fleet.get(guest.ref) == guest
        station.close()


def test_a_command_without_a_guest_goes_to_the_backend_it_names(
    open_station: Open, backend: SimulatedBackend, other: SimulatedBackend
) -> None:
    station = open_station(backend, other, sampling=False)

    station.submit("guest.create", backend="other", spec=ContainerSpec("base", name="fresh")).wait(5)
    station.refresh()

    assert station.fleet.resolve("fresh").ref.backend == "other"
    assert not backend.faults.calls["create"]


def test_running_operations_and_the_last_200_that_ended_are_kept(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend, sampling=False)
    guest = guest_of(station)

    operations = [station.submit("guest.limit", guest.ref, pids=count + 1) for count in range(210)]
    for operation in operations:
        operation.wait(10)

    assert list(station.operations()) == operations[-200:]


def test_a_limit_change_is_undone_and_made_again(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    before = backend.limits(guest.ref)
    station.submit("guest.limit", guest.ref, cpus=0.5, pids=77).wait(5)
    station.submit("guest.limit", guest.ref, cpus=0.25).wait(5)

    station.submit("limit.undo").wait(5)
    assert (backend.limits(guest.ref).cpus, backend.limits(guest.ref).pids) == (0.5, 77)
    station.submit("limit.undo").wait(5)
    assert backend.limits(guest.ref) == before
    with pytest.raises(WrongState, match="left to undo"):
        station.submit("limit.undo").wait(5)
    station.submit("limit.redo").wait(5)
    station.submit("limit.redo").wait(5)
    assert (backend.limits(guest.ref).cpus, backend.limits(guest.ref).pids) == (0.25, 77)
    with pytest.raises(WrongState, match="left to redo"):
        station.submit("limit.redo").wait(5)


def test_undo_of_one_guest_leaves_the_others(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    other = guest_of_other(station, guest.ref)
    before = backend.limits(guest.ref)
    station.submit("guest.limit", guest.ref, cpus=0.5).wait(5)
    station.submit("guest.limit", other, cpus=0.5).wait(5)

    station.submit("limit.undo", guest.ref).wait(5)

    assert backend.limits(guest.ref) == before
    assert backend.limits(other).cpus == 0.5


def test_changes_given_as_one_group_are_undone_and_made_again_together(
    open_station: Open, backend: SimulatedBackend
) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    refs = (guest.ref, guest_of_other(station, guest.ref))
    before = [backend.limits(ref) for ref in refs]
    bulk = object()
    station.submit("guest.limit", refs[0], pids=91).wait(5)
    for operation in [station.submit("guest.limit", ref, group=bulk, cpus=0.5) for ref in refs]:
        operation.wait(5)

    station.submit("limit.undo").wait(5)
    wait_until(lambda: [backend.limits(ref).cpus for ref in refs] == [limits.cpus for limits in before])
    assert backend.limits(refs[0]).pids == 91

    wait_until(lambda: all(operation.is_done for operation in station.operations()))
    station.submit("limit.redo").wait(5)
    wait_until(lambda: [backend.limits(ref).cpus for ref in refs] == [0.5, 0.5])


def test_a_change_of_a_guest_that_is_gone_does_not_stand_in_the_way_of_undo(
    open_station: Open, backend: SimulatedBackend
) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    gone = guest_of_other(station, guest.ref)
    before = backend.limits(guest.ref)
    station.submit("guest.limit", guest.ref, pids=91).wait(5)
    station.submit("guest.limit", gone, pids=91).wait(5)
    station.submit("guest.remove", gone, force=True).wait(5)
    with pytest.raises(NotFound):
        station.submit("limit.undo").wait(5)

    station.submit("limit.undo").wait(5)

    assert backend.limits(guest.ref) == before


def test_what_the_system_refuses_to_a_backend_is_told_as_the_system_said_it(open_station: Open) -> None:
    class OnAFullDisk(SimulatedBackend):
        def stop(self, ref: GuestRef, recorder: Recorder, *, timeout_s: float | None = None) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/var/lib/innkeeper/names/db")

    station = open_station(OnAFullDisk(guests=3))
    guest = guest_of(station)

    with pytest.raises(InnkeeperError) as caught:
        station.submit("guest.stop", guest.ref).wait(5)

    assert caught.value.message == f"cannot stop {guest.name}: No space left on device: /var/lib/innkeeper/names/db"


def test_a_package_that_is_not_installed_is_named(open_station: Open) -> None:
    class WithoutNetlink(SimulatedBackend):
        def start(self, ref: GuestRef, recorder: Recorder) -> None:
            import pyroute_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401

    station = open_station(WithoutNetlink(guests=3))

    with pytest.raises(InnkeeperError, match="the Python package pyroute_that_nobody_has is not installed") as caught:
        station.submit("guest.start", guest_of(station).ref).wait(5)

    assert caught.value.hint == "pip install pyroute_that_nobody_has"


def test_a_new_change_ends_the_chance_to_redo(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    station.submit("guest.limit", guest.ref, cpus=0.5).wait(5)
    station.submit("limit.undo").wait(5)

    station.submit("guest.limit", guest.ref, cpus=0.75).wait(5)

    with pytest.raises(WrongState):
        station.submit("limit.redo").wait(5)


def test_an_undo_that_failed_can_be_tried_again(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    station.submit("guest.limit", guest.ref, cpus=0.5).wait(5)
    backend.faults.die()
    with pytest.raises(InnkeeperError):
        station.submit("limit.undo").wait(5)
    backend.faults.revive()
    wait_until(lambda: station.statuses()[0].state == "up")

    station.submit("limit.undo").wait(5)

    assert backend.limits(guest.ref).cpus is None


def test_a_refused_limit_change_leaves_nothing_to_undo(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    with pytest.raises(UsageError):
        station.submit("guest.limit", guest.ref, cpus=0.5, cpuset="0-999").wait(5)

    with pytest.raises(WrongState):
        station.submit("limit.undo").wait(5)
    assert backend.limits(guest.ref) == guest.limits


def test_a_guest_that_is_stopped_by_an_operation_is_stopped_for_the_fleet(
    open_station: Open, backend: SimulatedBackend
) -> None:
    station = open_station(backend)
    guest = guest_of(station)

    station.submit("guest.kill", guest.ref, signal="TERM").wait(5)

    seen = station.fleet.get(guest.ref)
    assert seen is not None
    assert (seen.state, seen.exit_code) == (GuestState.STOPPED, 143)
