"""How it stands with one backend: is it open, when did it last answer, what went wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from app.core.settings import Pace
from backends.errors import InnkeeperError, TimedOut

LinkState = Literal["connecting", "up", "late", "lost", "off"]


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """What a status line says of one backend."""

    name: str
    title: str
    state: LinkState
    """connecting: first attempt; late: overdue; lost: was up and is not; off: never was up."""

    age_s: float | None
    """Since its last good answer; None before the first."""

    error: InnkeeperError | None
    """The last thing that went wrong, until it answers again."""

    is_simulated: bool
    guests: int
    sample_cost_s: float | None
    """CPU time that the last pass took in this process."""


class Link:
    """The record of one backend's answers. Its sampler writes it, everybody may read it."""

    def __init__(self, title: str, pace: Pace, clock: Callable[[], float]) -> None:
        self._title, self._pace, self._clock = title, pace, clock
        self._lock = threading.Lock()
        self._opened_s = 0.0
        self._answered_s: float | None = None
        self._call_began_s: float | None = None
        self._announced: bool | None = None
        self._backoff_s = pace.backoff_first_s
        self.is_open = False
        self.error: InnkeeperError | None = None
        self.has_failed = False
        """The last attempt to open or the last call failed."""

        self.retry_at_s = 0.0
        """When the next attempt to open is due."""

    def calling(self) -> None:
        """A call into the backend begins."""
        self._call_began_s = self._clock()

    def opened(self) -> None:
        """open() returned."""
        with self._lock:
            self.is_open, self._opened_s, self._call_began_s = True, self._clock(), None

    def answered(self) -> bool:
        """A call gave a good answer; return True if listeners should hear that the backend is (back) up."""
        with self._lock:
            self._answered_s, self._call_began_s = self._clock(), None
            self.error, self.has_failed, self._backoff_s = None, False, self._pace.backoff_first_s
            news, self._announced = self._announced is not True, True
            return news

    def stumbled(self, error: InnkeeperError) -> None:
        """A call failed in a way that may pass; the backend stays open."""
        with self._lock:
            self.error, self.has_failed, self._call_began_s = error, True, None

    def failed(self, error: InnkeeperError) -> bool:
        """The backend is not there; plan the next attempt. Return True if listeners should hear of it."""
        with self._lock:
            self.error, self.has_failed, self._call_began_s, self.is_open = error, True, None, False
            self.retry_at_s = self._clock() + self._backoff_s
            self._backoff_s = min(self._backoff_s * 2, self._pace.backoff_most_s)
            news, self._announced = self._announced is not False, False
            return news

    def overdue(self, interval_s: float, *, sampling: bool) -> InnkeeperError | None:
        """Return an error, once, when an open backend has become silent for too long."""
        with self._lock:
            if self._announced is not True or self._state(interval_s, sampling) != "lost":
                return None
            self._announced = False
            age_s = self._clock() - (self._answered_s or 0.0)
            return self.error or TimedOut(f"{self._title} has not answered for {age_s:.0f} s")

    def state(self, interval_s: float, *, sampling: bool) -> LinkState:
        """Return how it stands now."""
        with self._lock:
            return self._state(interval_s, sampling)

    def age_s(self) -> float | None:
        """Return the time since the last good answer."""
        return None if self._answered_s is None else max(0.0, self._clock() - self._answered_s)

    def _state(self, interval_s: float, sampling: bool) -> LinkState:
        if not self.is_open:
            if self._answered_s is not None:
                return "lost"
            return "off" if self.has_failed else "connecting"
        # Who does not sample asks only now and then: a call that hangs counts there, the time between calls does not.
        since_s = max(self._opened_s, self._answered_s or 0.0) if sampling else self._call_began_s
        silent_s = 0.0 if since_s is None else self._clock() - since_s
        if silent_s > max(self._pace.lost_after_s, self._pace.late_intervals * interval_s):
            return "lost"
        return "late" if silent_s > self._pace.late_intervals * interval_s else "up"
