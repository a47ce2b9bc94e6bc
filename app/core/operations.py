"""A command that was given: what it does, how far it is, how it ended."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from backends.errors import InnkeeperError, TimedOut
from backends.model import GuestRef
from backends.trace import Progress, StepRecord

KEPT = 200
"""Ended operations that are remembered."""

LINES = 10_000
"""Lines that are kept of what an operation printed."""


@dataclass(slots=True, eq=False)
class Operation:
    """One command on one guest (or on none). Its core thread writes it, everybody may read it."""

    id: int
    command: str
    """Name in COMMANDS: "guest.stop"."""

    title: str
    """For people: "stop web". Holds the guest's name, which is other people's text."""

    ref: GuestRef | None
    backend: str
    started_s: float = field(default_factory=time.time)
    """Seconds since the epoch when it was given."""

    ended_s: float | None = None
    records: list[StepRecord] = field(default_factory=list)
    error: InnkeeperError | None = None
    result: object = None
    parts: dict[str, Progress] = field(default_factory=dict)
    """How far each part is, in the order in which they began."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    """The last of what it printed. Other people's text."""

    said: int = 0
    """Lines that it printed, those that are not kept any more among them."""

    has_begun: bool = False
    """False while it waits for its turn."""

    is_cancelled: bool = False
    """True once the user asked to give it up; it ends when it comes to a place where it can."""

    _ended: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def is_done(self) -> bool:
        """True once it ended, well or not."""
        return self._ended.is_set()

    @property
    def can_be_cancelled(self) -> bool:
        """True if it has not begun, or is something long that asks now and then whether to go on."""
        return not self.is_done and (not self.has_begun or bool(self.parts or self.lines))

    def cancel(self) -> None:
        """Ask it to give up. Returns at once; it ends with the error Cancelled, or as if nothing had been asked."""
        self.is_cancelled = True

    def wait(self, timeout_s: float | None = None) -> object:
        """Block until it ended and return its result, or raise its error. Raises TimedOut; it goes on then."""
        if not self._ended.wait(timeout_s):
            raise TimedOut(f"{self.title}: not done after {timeout_s:g} s")
        if self.error is not None:
            raise self.error
        return self.result

    def end(self, result: object, error: InnkeeperError | None) -> None:
        """Write down how it ended; whoever waits goes on."""
        self.result, self.error, self.ended_s = result, error, time.time()
        self._ended.set()


class OperationLog:
    """The operations that run and the last ones that ended."""

    def __init__(self, kept: int = KEPT) -> None:
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._open: dict[int, Operation] = {}
        self._ended: deque[Operation] = deque(maxlen=kept)

    def begin(self, command: str, title: str, ref: GuestRef | None, backend: str) -> Operation:
        """Return a new operation."""
        operation = Operation(next(self._ids), command, title, ref, backend)
        with self._lock:
            self._open[operation.id] = operation
        return operation

    def end(self, operation: Operation, result: object, error: InnkeeperError | None) -> None:
        """Take it out of the running ones and let its waiters go on."""
        with self._lock:
            self._open.pop(operation.id, None)
            self._ended.append(operation)
        operation.end(result, error)

    def all(self) -> tuple[Operation, ...]:
        """Return all that are known, in the order in which they were given."""
        with self._lock:
            return tuple(sorted((*self._ended, *self._open.values()), key=lambda operation: operation.id))

    def running(self) -> tuple[Operation, ...]:
        """Return those that have not ended, in the order in which they were given."""
        with self._lock:
            return tuple(self._open.values())

    def pending(self, ref: GuestRef) -> str | None:
        """Return the first command that has been given for the guest and has not ended."""
        with self._lock:
            return next((operation.command for operation in self._open.values() if operation.ref == ref), None)
