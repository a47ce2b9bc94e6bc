"""Something that takes a while: its parts move on with the clock, and it can be given up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backends.trace import Progress, Recorder

TICK_S = 0.05
"""So often one looks at the clock."""

LANES = 3
"""Parts that move at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """One thing to move."""

    name: str
    size_bytes: int
    is_here: bool = False


class Haul:
    """Moves parts, so many bytes a second in all; without a rate all at once."""

    def __init__(self, parts: Sequence[Part], bytes_per_s: float, clock: Callable[[], float]) -> None:
        self._parts, self._clock = parts, clock
        self._rate = bytes_per_s / LANES if bytes_per_s else 0.0
        self._begins: dict[str, float] = {}
        free = [0.0] * LANES
        for part in parts:
            if not part.is_here:
                lane = free.index(min(free))
                self._begins[part.name] = free[lane]
                free[lane] += part.size_bytes / self._rate if self._rate else 0.0
        self._whole_s = max(free)

    def run(
        self, recorder: Recorder, doing: str, *, here: str = "", fails_at: float | None = None, tells: bool = True
    ) -> bool:
        """Move all; False if it broke when so much of the time was over. Raises Cancelled."""
        began_s = self._clock()
        while True:
            gone_s = self._clock() - began_s
            if fails_at is not None and gone_s >= self._whole_s * fails_at:
                return False
            for part in self._parts if tells else ():
                recorder.progress(self._progress(part, gone_s, doing, here))
            recorder.check()
            if gone_s >= self._whole_s:
                return True
            threading.Event().wait(TICK_S)  # the clock may stand still: only it decides how far things are

    def _progress(self, part: Part, gone_s: float, doing: str, here: str) -> Progress:
        if part.is_here:
            return Progress(part.name, here, part.size_bytes, part.size_bytes)
        moved_s = gone_s - self._begins[part.name]
        done = part.size_bytes if not self._rate else int(max(0.0, moved_s) * self._rate)
        if done >= part.size_bytes:
            return Progress(part.name, "done", part.size_bytes, part.size_bytes)
        return Progress(part.name, doing if moved_s > 0 else "waiting", done, part.size_bytes)
