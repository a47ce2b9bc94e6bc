"""A loop over sockets and moments, with one thread."""

from __future__ import annotations

import heapq
import itertools
import selectors
import time
from collections.abc import Callable

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Timer:
    """Something to be done at a moment, unless it is cancelled."""

    __slots__ = ("work",)

    def __init__(self, work: Callable[[], None]) -> None:
        self.work: Callable[[], None] | None = work

    def cancel(self) -> None:
        """Do not do it."""
        self.work = None


class Loop:
    """Calls what is registered when a descriptor is ready or a moment has come."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()

    def watch(self, fd: int, events: int, work: Callable[[], None]) -> None:
        """Call work whenever fd is ready; replaces what was registered for it."""
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, work)
        else:
            self._selector.register(fd, events, work)

    def ignore(self, fd: int) -> None:
        """Watch fd no more. Before it is closed."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def after(self, seconds: float, work: Callable[[], None]) -> Timer:
        """Call work once, then."""
        timer = Timer(work)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._count), timer))
        return timer

    def turn(self) -> None:
        """Wait for something and do it."""
        while self._timers and self._timers[0][2].work is None:
            heapq.heappop(self._timers)
        wait_s = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for key, _ in self._selector.select(wait_s):
            # What an earlier one of them has closed is not called any more.
            current = self._selector.get_map().get(key.fd)
            if current is not None and current.data is key.data:
                key.data()
        while self._timers and self._timers[0][0] <= time.monotonic():
            timer = heapq.heappop(self._timers)[2]
            if timer.work is not None:
                timer.work()
