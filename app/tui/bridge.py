"""From core threads to the event loop: many events become one message, the newest wins."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from app.core.workstation import Workstation
from app.tui.host import HostReader
from app.tui.messages import Batch
from backends.events import (
    BackendBack,
    BackendLost,
    Event,
    GuestAdded,
    GuestChanged,
    GuestGone,
    OperationEnded,
    OperationStarted,
    Progressed,
    Said,
    Sampled,
    StepDone,
)

PROGRESS_EVERY_S = 0.25
"""Progress is told so often: it may come a thousand times a second, and each picture costs."""

MAX_STEPS = 200
"""Steps kept for the next look; the trace itself holds all."""


class Bridge:
    """Collects what the core tells and calls `deliver` on the event loop, never twice for what one call can tell.

    The listener runs on core threads and only takes a short lock, so a slow screen never slows the core.
    """

    def __init__(
        self,
        station: Workstation,
        loop: asyncio.AbstractEventLoop,
        deliver: Callable[[Batch], object],
        host: HostReader,
    ) -> None:
        self._loop, self._deliver, self._host = loop, deliver, host
        self._lock = threading.Lock()
        self._batch = Batch()
        self._is_scheduled = False
        self._is_waiting = False
        """True while progress waits to be told."""

        self._unsubscribe = station.subscribe(self._take)

    def close(self) -> None:
        """Hear no more."""
        self._unsubscribe()

    def _take(self, event: Event) -> None:
        if isinstance(event, Sampled):
            self._host.read_if_due()  # here, because this thread may wait for a file and the event loop may not
        if isinstance(event, (Progressed, Said)):
            self._take_progress(event.operation_id)
            return
        with self._lock:
            if not _merge(self._batch, event) or self._is_scheduled:
                return
            self._is_scheduled = True
        self._call(self._flush)

    def _take_progress(self, operation_id: int) -> None:
        with self._lock:
            self._batch.moving.add(operation_id)
            if self._is_scheduled or self._is_waiting:
                return
            self._is_waiting = True
        self._call(self._flush_later)

    def _flush_later(self) -> None:
        self._loop.call_later(PROGRESS_EVERY_S, self._flush_waiting)

    def _flush_waiting(self) -> None:
        with self._lock:
            self._is_waiting = False
            if not self._batch.moving or self._is_scheduled:
                return
        self._flush()

    def _call(self, what: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # the loop is closed: the program ends
            self._unsubscribe()

    def _flush(self) -> None:
        with self._lock:
            batch, self._batch, self._is_scheduled = self._batch, Batch(), False
        self._deliver(batch)


def _merge(batch: Batch, event: Event) -> bool:
    """Put the event into the batch; False if the screen does not care."""
    if isinstance(event, Sampled):
        batch.sampled.add(event.backend)
    elif isinstance(event, (GuestAdded, GuestChanged, GuestGone)):
        batch.fleet = True
    elif isinstance(event, (BackendLost, BackendBack)):
        batch.backends = True
    elif isinstance(event, OperationStarted):
        batch.operations = True
    elif isinstance(event, OperationEnded):
        batch.operations = True
        batch.ended.append(event)
    elif isinstance(event, StepDone):
        batch.steps.append(event)
        del batch.steps[:-MAX_STEPS]
    else:
        return False
    return True
