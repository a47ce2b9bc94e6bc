"""Workstations over simulated backends, quick enough for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.paths import paths_for
from app.core.settings import Pace, Settings
from app.core.workstation import Workstation
from backends.events import Event
from backends.model import Guest, GuestKind, GuestState
from backends.simulated.backend import SimulatedBackend

QUICK = Pace(
    early_s=0.01,
    list_every_s=0.05,
    quick_list_s=0.02,
    dirty_gap_s=0.0,
    lost_after_s=0.15,
    backoff_first_s=0.02,
    backoff_most_s=0.1,
    open_timeout_s=0.5,
    stop_within_s=0.4,
)

Open = Callable[..., Workstation]


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self, station: Workstation) -> None:
        self._lock = threading.Lock()
        self._events: list[Event] = []
        station.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        with self._lock:
            self._events.append(event)

    def of(self, *kinds: type[Any]) -> list[Any]:
        """Return the events of these kinds (all without any), oldest first."""
        with self._lock:
            return [event for event in self._events if not kinds or isinstance(event, kinds)]


@pytest.fixture
def open_station(tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens a Workstation on backends; all are closed, and what hangs is released."""
    opened: list[tuple[Workstation, tuple[SimulatedBackend, ...]]] = []

    def make(
        *backends: SimulatedBackend, sampling: bool = True, interval_s: float = 0.03, pace: Pace = QUICK, **more: Any
    ) -> Workstation:
        settings = Settings(paths_for(tmp_path), interval_s=interval_s, pace=pace)
        station = Workstation(settings, backends=backends, sampling=sampling, **more)
        opened.append((station, backends))
        return station

    yield make
    for station, backends in opened:
        for backend in backends:
            backend.faults.release()
        unstopped = station.close()
        assert unstopped == ()


@pytest.fixture
def backend() -> SimulatedBackend:
    """Six guests: four containers, two VMs; all run at first but one."""
    return SimulatedBackend(guests=6)


@pytest.fixture
def other() -> SimulatedBackend:
    """A second backend whose guests have the same names."""
    return SimulatedBackend(guests=6, name="other", title="other guests")


def guest_of(station: Workstation, state: GuestState = GuestState.RUNNING, backend: str = "simulated") -> Guest:
    """Return some container of a backend in a state, reading the lists first."""
    station.refresh()
    return next(
        guest
        for guest in station.fleet.guests()
        if guest.ref.backend == backend and guest.kind is GuestKind.CONTAINER and guest.state is state
    )
