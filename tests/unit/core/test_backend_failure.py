"""A backend that hangs, dies or comes back holds up nobody else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import pairwise

import pytest

from app.core.workstation import BackendStatus, Workstation
from backends.base import Listener
from backends.errors import BackendUnavailable, InnkeeperError
from backends.events import BackendBack, BackendLost, Event, Sampled
from backends.metrics import Sample
from backends.model import GuestRef, GuestState
from backends.simulated.backend import SimulatedBackend
from tests.tools.waiting import wait_until
from tests.unit.core.conftest import QUICK, Heard, Open, guest_of


def status_of(station: Workstation, name: str) -> BackendStatus:
    return next(status for status in station.statuses() if status.name == name)


def test_a_backend_that_hangs_while_it_opens_holds_up_nobody(
    open_station: Open, backend: SimulatedBackend, other: SimulatedBackend
) -> None:
    other.faults.hang("open")

    station = open_station(other, backend)
    heard = Heard(station)

    wait_until(lambda: len(heard.of(Sampled)) > 3)
    assert status_of(station, "other").state == "connecting"
    assert status_of(station, "simulated").state == "up"
    assert {event.backend for event in heard.of(Sampled)} == {"simulated"}


def test_a_backend_that_hangs_while_it_is_read_goes_late_then_lost_and_the_others_go_on(
    open_station: Open, backend: SimulatedBackend, other: SimulatedBackend
) -> None:
    station = open_station(backend, other)
    heard = Heard(station)
    wait_until(lambda: station.latest(guest_of(station, backend="other").ref))

    other.faults.hang("sample", "guests")

    wait_until(lambda: status_of(station, "other").state == "late")
    wait_until(lambda: status_of(station, "other").state == "lost")
    wait_until(lambda: any(event.backend == "other" for event in heard.of(BackendLost)))
    passes = len(heard.of(Sampled))
    wait_until(lambda: len(heard.of(Sampled)) > passes + 3)
    assert status_of(station, "simulated").state == "up"
    assert (status_of(station, "other").age_s or 0) > 0.1
    assert status_of(station, "other").guests == 6


def test_an_operation_on_a_good_backend_ends_while_another_hangs_in_everything(
    open_station: Open, backend: SimulatedBackend, other: SimulatedBackend
) -> None:
    station = open_station(backend, other)
    guest = guest_of(station)
    other.faults.hang()
    wait_until(lambda: other.faults.hung)

    stuck = station.submit("guest.stop", guest_of_backend(station, "other"))
    station.submit("guest.stop", guest.ref).wait(5)

    assert not stuck.is_done
    seen = station.fleet.get(guest.ref)
    assert seen is not None
    assert seen.state is GuestState.STOPPED


def guest_of_backend(station: Workstation, backend: str) -> GuestRef:
    return next(g.ref for g in station.fleet.guests() if g.ref.backend == backend and g.state is GuestState.RUNNING)


def test_a_hanging_backend_comes_back_when_it_answers_again(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    heard = Heard(station)
    station.refresh()
    backend.faults.hang("sample")
    wait_until(lambda: heard.of(BackendLost))

    backend.faults.release()

    wait_until(lambda: status_of(station, "simulated").state == "up")
    wait_until(lambda: heard.of(BackendLost, BackendBack)[-1] == BackendBack("simulated"))


def test_a_backend_that_dies_keeps_its_guests_and_is_opened_again(
    open_station: Open, backend: SimulatedBackend
) -> None:
    station = open_station(backend)
    heard = Heard(station)
    station.refresh()
    backend.faults.die("killed")
    wait_until(lambda: heard.of(BackendLost))

    lost = status_of(station, "simulated")
    assert lost.state == "lost"
    assert "killed" in str(lost.error)
    assert len(station.fleet.guests()) == 6
    attempts = backend.faults.calls["open"]
    wait_until(lambda: backend.faults.calls["open"] > attempts + 2)
    backend.faults.revive()

    wait_until(lambda: status_of(station, "simulated").state == "up")
    wait_until(lambda: heard.of(BackendLost, BackendBack)[-1] == BackendBack("simulated"))
    assert len(heard.of(BackendLost)) == 1
    assert status_of(station, "simulated").error is None


class Unreachable(SimulatedBackend):
    """Notes when somebody tries to open it."""

    def __init__(self) -> None:
        super().__init__(guests=1)
        self.tried_s: list[float] = []
        self.faults.die()

    def open(self, listener: Listener | None = None) -> None:
        self.tried_s.append(time.monotonic())
        super().open(listener)


def test_attempts_to_reconnect_become_rarer_up_to_a_limit(open_station: Open) -> None:
    backend = Unreachable()
    open_station(backend)

    wait_until(lambda: len(backend.tried_s) >= 7)

    gaps_s = [later - earlier for earlier, later in pairwise(backend.tried_s)]
    least_s = (0.02, 0.04, 0.08, QUICK.backoff_most_s, QUICK.backoff_most_s, QUICK.backoff_most_s)
    assert all(gap_s >= wanted_s for gap_s, wanted_s in zip(gaps_s, least_s, strict=False))


def test_a_command_for_a_lost_backend_fails_at_once_and_says_why(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    backend.faults.die("killed")
    wait_until(lambda: status_of(station, "simulated").state == "lost")

    with pytest.raises(BackendUnavailable, match="killed"):
        station.submit("guest.stop", guest.ref).wait(5)
    with pytest.raises(BackendUnavailable, match="killed"):
        station.backend("simulated")


def test_a_backend_that_never_opened_is_off_and_says_why(
    open_station: Open, backend: SimulatedBackend, other: SimulatedBackend
) -> None:
    other.faults.die("not installed")

    station = open_station(backend, other, sampling=False)
    station.refresh()

    assert status_of(station, "other").state == "off"
    assert "not installed" in str(status_of(station, "other").error)
    assert {guest.ref.backend for guest in station.fleet.guests()} == {"simulated"}


def test_a_list_that_does_not_come_in_time_is_skipped(
    open_station: Open, backend: SimulatedBackend, other: SimulatedBackend
) -> None:
    other.faults.hang("guests")
    station = open_station(other, backend, sampling=False)

    station.refresh(timeout_s=0.3)

    assert {guest.ref.backend for guest in station.fleet.guests()} == {"simulated"}
    wait_until(lambda: status_of(station, "other").state in ("late", "lost"))


class Broken(SimulatedBackend):
    """Its sampling has a fault that nobody foresaw."""

    is_broken = True

    def sample(self) -> Mapping[GuestRef, Sample]:
        if self.is_broken:
            raise ZeroDivisionError("a fault of the backend")
        return super().sample()


def test_a_fault_in_a_backend_is_shown_and_the_thread_lives_on(open_station: Open) -> None:
    broken = Broken(guests=3)
    station = open_station(broken)
    heard = Heard(station)

    wait_until(lambda: "ZeroDivisionError" in str(status_of(station, "simulated").error))
    assert isinstance(status_of(station, "simulated").error, InnkeeperError)
    assert any("a fault of the backend" in fault for fault in station.faults())
    broken.is_broken = False

    wait_until(lambda: heard.of(Sampled))


def test_a_listener_that_fails_is_noted_and_stops_nothing(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)

    def fail(event: Event) -> None:
        raise RuntimeError("a fault of the screen")

    station.subscribe(fail)
    heard = Heard(station)

    wait_until(lambda: len(heard.of(Sampled)) > 3)
    assert any("a fault of the screen" in fault for fault in station.faults())
