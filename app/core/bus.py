"""Tells events to whoever listens, and survives listeners that fail."""

from __future__ import annotations

import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable

from backends.events import Event

Listener = Callable[[Event], None]


class Bus:
    """Calls every listener with every event, on the thread that publishes.

    Events of one thread arrive in order. Listeners must not block; one that raises is noted and goes on being called.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: tuple[Listener, ...] = ()
        self._faults: deque[str] = deque(maxlen=20)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call the listener from now on, until the function that is returned is called."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = tuple(other for other in self._listeners if other is not listener)

        return unsubscribe

    def publish(self, event: Event) -> None:
        """Tell one event to all."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # a listener's fault must not end a core thread; it is kept and shown
                self.fault(f"listener of {type(event).__name__}")

    def publish_all(self, events: Iterable[Event]) -> None:
        """Tell several, in order."""
        for event in events:
            self.publish(event)

    def fault(self, where: str) -> str:
        """Keep the exception that is being handled as a line and return the line."""
        error = sys.exception()
        last = traceback.extract_tb(error.__traceback__)[-1] if error and error.__traceback__ else None
        place = f" at {last.filename}:{last.lineno}" if last else ""
        line = f"{where}: {type(error).__name__}: {error}{place}"
        self._faults.append(line)
        return line

    def faults(self) -> tuple[str, ...]:
        """Return the last faults of listeners and of the core's own threads, oldest first."""
        return tuple(self._faults)
