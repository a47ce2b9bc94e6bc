"""What was done to a guest, step by step, and the operations of this session."""

from __future__ import annotations

import time
from collections.abc import Sequence

from backends.trace import StepRecord
from widgets.glyphs import GLYPHS
from widgets.line import Line, line, wrap
from widgets.text import clean, fit


def step_lines(records: Sequence[StepRecord], width: int, *, by_hand: bool = True) -> list[Line]:
    """Each step: when, who, what, how long; below it the shell line that does the same, and the error."""
    lines: list[Line] = []
    day = ""
    for record in records:
        today = time.strftime("%Y-%m-%d", time.localtime(record.time_s))
        if today != day:
            day = today
            lines.append(line((f" {day}", "head")))
        lines += _step(record, width, by_hand)
    return lines


def _step(record: StepRecord, width: int, by_hand: bool) -> list[Line]:
    failed = bool(record.error)
    lead = line(
        (f" {_clock(record.time_s)} ", "dim"),
        (fit(clean(record.process), 10) + " ", "accent"),
        (fit(took(record.duration_s), 8, right=True) + " ", "dim"),
        (clean(record.text), "bad" if failed else "strong"),
    )
    indent = 1 + 12 + 1 + 10 + 1 + 8 + 1
    lines = wrap(lead, width, indent)
    if by_hand and record.by_hand:
        lines += wrap(line(" " * indent, ("$ " + record.by_hand, "good")), width, indent + 2)
    if failed:
        number = f" (errno {record.errno})" if record.errno is not None else ""
        lines += wrap(line(" " * indent, (f"{GLYPHS.warning} {record.error}{number}", "bad")), width, indent + 2)
    return lines


def took(seconds: float) -> str:
    """A duration as steps have them: "87 µs", "1.2 ms", "3.4 s"."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} {'us' if GLYPHS.is_ascii else 'µs'}"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _clock(time_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(time_s)) + f".{int(time_s % 1 * 1000):03d}"


def operation_line(
    started_s: float, title: str, state: str, seconds: float | None, detail: str, *, failed: bool
) -> Line:
    """One operation of this session."""
    return line(
        (f" {_clock(started_s)[:8]} ", "dim"),
        (fit(state, 8) + " ", "bad" if failed else "good" if state == "done" else "accent"),
        (fit(took(seconds) if seconds is not None else "", 8, right=True) + " ", "dim"),
        (clean(title), "strong"),
        (f"  {clean(detail)}" if detail else "", "bad" if failed else "dim"),
    )
