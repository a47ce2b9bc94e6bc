"""Following an operation that takes long: how far it is, what it prints, and whether the user has had enough."""

from __future__ import annotations

import time

from app.core.bus import Bus
from app.core.operations import Operation
from backends.events import Progressed, Said
from backends.trace import Progress, Watcher

_APART_S = 0.1
"""A part's progress is told so often at most; its end always."""


class OperationWatcher(Watcher):
    """Writes progress and output into an operation, and tells listeners."""

    def __init__(self, operation: Operation, bus: Bus) -> None:
        self._operation, self._bus = operation, bus
        self._told_s: dict[str, float] = {}

    def progressed(self, progress: Progress) -> None:
        """Keep the newest of each part, and tell of it now and then."""
        before = self._operation.parts.get(progress.part)
        self._operation.parts[progress.part] = progress
        now_s = time.monotonic()
        is_news = before is None or before.text != progress.text or progress.is_done
        if is_news or now_s - self._told_s.get(progress.part, 0.0) >= _APART_S:
            self._told_s[progress.part] = now_s
            self._bus.publish(Progressed(self._operation.id, progress))

    def said(self, line: str) -> None:
        """Keep a line and tell of it."""
        self._operation.lines.append(line)
        self._operation.said += 1
        self._bus.publish(Said(self._operation.id, line))

    @property
    def has_enough(self) -> bool:
        """True once the operation was cancelled."""
        return self._operation.is_cancelled
