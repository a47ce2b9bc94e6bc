"""Leaving stops every thread in bounded time, or says which did not stop."""

from __future__ import annotations

import threading
import time

import pytest

from app.core.workstation import Workstation
from backends.errors import BackendUnavailable, InnkeeperError
from backends.simulated.backend import SimulatedBackend
from tests.tools.waiting import wait_until
from tests.unit.core.conftest import QUICK, Open, guest_of


def core_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("innkeeper ")}


def test_leaving_ends_all_threads_and_closes_the_backend(open_station: Open, backend: SimulatedBackend) -> None:
    with open_station(backend) as station:
        guest = guest_of(station)
        station.submit("guest.stop", guest.ref).wait(5)
        assert core_threads()

    assert core_threads() == set()
    with pytest.raises(BackendUnavailable):
        backend.guests()


@pytest.mark.parametrize("call", ["open", "guests", "sample"])
def test_leaving_names_the_thread_of_a_backend_that_hangs(
    open_station: Open, backend: SimulatedBackend, other: SimulatedBackend, call: str
) -> None:
    other.faults.hang(call)
    station = open_station(backend, other)
    wait_until(lambda: other.faults.hung)

    began_s = time.monotonic()
    unstopped = station.close()

    assert unstopped == ("innkeeper other",)
    assert time.monotonic() - began_s < QUICK.stop_within_s + 5
    assert next(thread for thread in threading.enumerate() if thread.name == "innkeeper other").daemon


def test_what_has_not_begun_when_we_leave_never_begins(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    backend.faults.hang("stop")
    running = station.submit("guest.stop", guest.ref)
    wait_until(lambda: backend.faults.hung)
    waiting = station.submit("guest.start", guest.ref)

    unstopped = station.close()

    assert unstopped == ("innkeeper simulated operation 1",)
    with pytest.raises(InnkeeperError, match="not begun"):
        waiting.wait(5)
    assert not running.is_done


def test_what_runs_when_we_leave_may_end_before_its_backend_is_closed(
    open_station: Open, backend: SimulatedBackend
) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    backend.faults.hang("stop")
    running = station.submit("guest.stop", guest.ref)
    wait_until(lambda: backend.faults.hung)
    unstopped: list[tuple[str, ...]] = []
    leaving = threading.Thread(target=lambda: unstopped.append(station.close()))

    leaving.start()
    closed = backend.faults.calls["close"]
    threading.Event().wait(0.05)  # time in which it would be closed, if that did not wait
    assert backend.faults.calls["close"] == closed
    backend.faults.release()
    leaving.join(5)

    running.wait(5)
    assert unstopped == [()]
    assert backend.faults.calls["close"] == closed + 1


def test_a_command_given_after_the_end_is_abandoned(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    station.close()

    with pytest.raises(InnkeeperError, match="not begun"):
        station.submit("guest.stop", guest.ref).wait(5)


def test_leaving_twice_is_harmless(open_station: Open, backend: SimulatedBackend) -> None:
    station: Workstation = open_station(backend)
    assert station.close() == ()
    assert station.close() == ()
