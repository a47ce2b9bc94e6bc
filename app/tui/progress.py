"""How fast operations go and how long they will take, from what they tell of their parts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.core.operations import Operation
from backends.trace import Progress
from widgets.progress_lines import PartFigures

WEIGHT = 0.3
"""Of the newest rate in the moving average."""

LEAST_S = 0.2
"""Two looks closer together tell no rate."""

_NUMBERED = re.compile(r"([0-9]+)/([0-9]+)$")


@dataclass(frozen=True, slots=True)
class OperationFigures:
    """How far an operation is."""

    share: float | None
    """0 to 1; None where nobody knows."""

    bytes_per_s: float | None
    left_s: float | None
    parts: tuple[PartFigures, ...]

    @property
    def doing(self) -> str:
        """What the newest part that is not done does now. Other people's text."""
        busy = [part for part in self.parts if part.share is None or part.share < 1.0]
        return f"{busy[-1].name}: {busy[-1].text}" if busy and busy[-1].unit != "bytes" else _counted(busy)


NOTHING = OperationFigures(None, None, None, ())


class _Mark:
    """What was done of a part when one looked last."""

    __slots__ = ("done", "rate", "seen_s")

    def __init__(self, seen_s: float, done: int) -> None:
        self.seen_s, self.done = seen_s, done
        self.rate: float | None = None

    def look(self, now_s: float, done: int) -> None:
        elapsed_s = now_s - self.seen_s
        if elapsed_s < LEAST_S:
            return
        fresh = max(0, done - self.done) / elapsed_s
        self.rate = fresh if self.rate is None else self.rate + WEIGHT * (fresh - self.rate)
        self.seen_s, self.done = now_s, done


class ProgressBook:
    """Remembers what was done before, for each running operation."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: dict[int, dict[str, _Mark]] = {}
        self._figures: dict[int, OperationFigures] = {}

    def look(self, operations: Iterable[Operation]) -> None:
        """Take in how far the running operations are; the others are forgotten."""
        now_s = self._clock()
        running = {operation.id: operation for operation in operations}
        self._marks = {id: marks for id, marks in self._marks.items() if id in running}
        self._figures = {id: self._figure(each, now_s) for id, each in running.items() if each.parts}

    def of(self, operation: Operation) -> OperationFigures:
        """Return how far it is; of one that ended without a rate."""
        if operation.is_done:
            return _together([_part(progress, None) for progress in dict(operation.parts).values()], is_done=True)
        return self._figures.get(operation.id, NOTHING)

    def _figure(self, operation: Operation, now_s: float) -> OperationFigures:
        marks = self._marks.setdefault(operation.id, {})
        parts: list[PartFigures] = []
        for name, progress in dict(operation.parts).items():
            mark = marks.setdefault(name, _Mark(now_s, progress.done))
            if progress.is_done:
                mark.rate = None
            else:
                mark.look(now_s, progress.done)
            parts.append(_part(progress, mark.rate))
        return _together(parts, is_done=False)


def _part(progress: Progress, rate: float | None) -> PartFigures:
    left = None
    if rate and progress.total is not None:
        left = (progress.total - progress.done) / rate
    shown = rate if progress.unit == "bytes" else None
    return PartFigures(progress.part, progress.text, progress.done, progress.total, progress.unit, shown, left)


def _together(parts: list[PartFigures], *, is_done: bool) -> OperationFigures:
    steps = [part for part in parts if part.unit != "bytes"]
    moved = [part for part in parts if part.unit == "bytes" and part.total is not None]
    rates = [part.bytes_per_s for part in parts if part.bytes_per_s is not None]
    rate = sum(rates) if rates else None
    if steps and (numbered := _NUMBERED.search(steps[-1].name)) is not None and int(numbered[2]):
        finished = int(numbered[1]) - 1 + (steps[-1].share or 0.0)
        return OperationFigures(min(1.0, finished / int(numbered[2])), rate, None, tuple(parts))
    counted = moved or [part for part in steps if part.total]
    total = sum(part.total or 0 for part in counted)
    done = sum(min(part.done, part.total or 0) for part in counted)
    share = done / total if total else None
    left = (total - done) / rate if rate and moved and not is_done else None
    return OperationFigures(share, rate, left, tuple(parts))


def _counted(busy: list[PartFigures]) -> str:
    counts: dict[str, int] = {}
    for part in busy:
        counts[part.text] = counts.get(part.text, 0) + 1
    return ", ".join(f"{text} {count}" for text, count in counts.items())
