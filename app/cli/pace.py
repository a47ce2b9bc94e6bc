"""Waits for samples, so that figures are printed when there are new ones and not before."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from backends.events import BackendBack, BackendLost, Event, Sampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.core.workstation import Workstation

FIRST_WITHIN_S = 3.0
"""How long the first figures are waited for; a backend that is slower comes in later."""

_GRACE_S = 0.5
"""How much later than asked for a sample may come before we print without it."""


class Collector:
    """Counts the passes over each backend of a sampling workstation."""

    def __init__(self, station: Workstation) -> None:
        self._station = station
        self._changed = threading.Condition()
        self._passes: Counter[str] = Counter()
        self._printed: Counter[str] = Counter()
        self._stop: Callable[[], None] = lambda: None

    def __enter__(self) -> Collector:
        self._stop = self._station.subscribe(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _listen(self, event: Event) -> None:
        if isinstance(event, Sampled):
            with self._changed:
                self._passes[event.backend] += 1
                self._changed.notify_all()
        elif isinstance(event, (BackendLost, BackendBack)):
            with self._changed:
                self._changed.notify_all()

    def wait_for_rates(self, *, only: str | None = None, timeout_s: float = FIRST_WITHIN_S) -> None:
        """Wait until every backend that is up (or only that one; "" is none) was sampled twice: rates need two."""
        names = None if only is None else [only] if only else []
        self._wait(lambda: self._have(2, names), timeout_s)
        self._printed = Counter(self._passes)

    def wait_for_news(self, due_s: float) -> None:
        """Wait until the (monotonic) time is due, and a little more for backends not sampled since the last time."""
        time.sleep(max(0.0, due_s - _GRACE_S - time.monotonic()))
        self._wait(self._is_all_new, due_s + _GRACE_S - time.monotonic())
        self._printed = Counter(self._passes)

    def _wait(self, is_so: Callable[[], bool], timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(is_so, max(0.0, timeout_s))

    def _expected(self) -> list[str]:
        return [status.name for status in self._station.statuses() if status.state in ("up", "connecting")]

    def _have(self, count: int, names: list[str] | None) -> bool:
        return all(self._passes[name] >= count for name in (self._expected() if names is None else names))

    def _is_all_new(self) -> bool:
        return all(self._passes[name] > self._printed[name] for name in self._expected())
