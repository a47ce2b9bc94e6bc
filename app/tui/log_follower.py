"""Reads a guest's log on a thread and hands it to the event loop in handfuls."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Sequence

from backends.capabilities import Logging
from backends.errors import InnkeeperError
from backends.model import GuestRef, LogLine

TAIL = 2000
"""Lines of the past that are read."""

GATHER_S = 0.1
"""News are handed over at most this often."""

MAX_WAITING = 5000
"""Pieces that may wait; a guest that prints faster than a screen can show loses the oldest of them."""


class LogFollower:
    """Follows one log until `stop`. `reply` gets pieces, `ended` an error or None; both on the event loop."""

    def __init__(
        self,
        backend: Logging,
        ref: GuestRef,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        reply: Callable[[Sequence[LogLine]], object],
        ended: Callable[[InnkeeperError | None], object],
    ) -> None:
        self.ref = ref
        self._loop, self._context = loop, context
        self._reply, self._ended = reply, ended
        self._lock = threading.Lock()
        self._waiting: list[LogLine] = []
        self._stopped = threading.Event()
        self._is_scheduled = False
        threading.Thread(target=self._read, args=(backend,), name=f"log {ref.backend}", daemon=True).start()

    def stop(self) -> None:
        """Read no more; nothing is handed over after this."""
        self._stopped.set()

    def _read(self, backend: Logging) -> None:
        error: InnkeeperError | None = None
        try:
            for piece in backend.logs(self.ref, follow=True, tail=TAIL, stop=self._stopped.is_set):
                if self._stopped.is_set():
                    return
                self._take(piece)
        except InnkeeperError as caught:
            error = caught
        except Exception as caught:  # this thread ends here otherwise; the user is told instead
            error = InnkeeperError(f"the log cannot be read: {type(caught).__name__}: {caught}")
        self._call(lambda: self._finish(error))

    def _take(self, piece: LogLine) -> None:
        with self._lock:
            self._waiting.append(piece)
            if len(self._waiting) > MAX_WAITING:
                del self._waiting[: MAX_WAITING // 10]
            if self._is_scheduled:
                return
            self._is_scheduled = True
        self._call(lambda: self._loop.call_later(GATHER_S, self._flush))

    def _flush(self) -> None:
        with self._lock:
            pieces, self._waiting, self._is_scheduled = self._waiting, [], False
        if pieces and not self._stopped.is_set():
            self._reply(pieces)

    def _finish(self, error: InnkeeperError | None) -> None:
        self._flush()
        if not self._stopped.is_set():
            self._ended(error)

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, context=self._context)
        except RuntimeError:  # the loop is closed: the program ends
            self._stopped.set()
