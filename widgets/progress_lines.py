"""The parts of something long, each with its bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from widgets.glyphs import bar
from widgets.line import Line, Role, line
from widgets.text import clean, fit
from widgets.units import duration, rate, size

METER = 20


@dataclass(frozen=True, slots=True)
class PartFigures:
    """How far one part is."""

    name: str
    text: str
    done: int
    total: int | None
    unit: str = "bytes"
    bytes_per_s: float | None = None
    left_s: float | None = None

    @property
    def share(self) -> float | None:
        """0 to 1; None where nobody knows."""
        if self.total is None:
            return None
        return 1.0 if self.total <= 0 else min(1.0, self.done / self.total)


def progress_lines(parts: Sequence[PartFigures], width: int) -> list[Line]:
    """One line a part: name, bar, how much of how much, rate, time left, what is done."""
    return [_line(part, width) for part in parts]


def short_part(name: str) -> str:
    """A digest as people know it, other names as they are."""
    algorithm, colon, digits = name.partition(":")
    return digits[:12] if colon and algorithm == "sha256" else name


def _line(part: PartFigures, width: int) -> Line:
    wide = width >= 100
    share = part.share
    is_done = share is not None and share >= 1.0
    role: Role = "dim" if is_done else "cpu"
    if part.unit == "bytes":
        much = size(part.done) if part.total is None else f"{size(part.done)} of {size(part.total)}"
    else:
        much = "" if part.total in (None, 1) else f"{part.done} of {part.total} {part.unit}"
    pace = f"{rate(part.bytes_per_s)}/s" if part.bytes_per_s and not is_done else ""
    left = duration(part.left_s) if part.left_s is not None and not is_done else ""
    meter = METER if wide else 10
    percent = f"{share * 100:3.0f}%" if share is not None else "    "
    return line(
        (f" {fit(clean(short_part(part.name)), 14)} ", "dim" if is_done else "strong"),
        (bar(share, meter), role),
        (f" {percent} ", role),
        f"{fit(much, 15)} {fit(pace, 8, right=True)} {fit(left, 6, right=True)} ",
        (part.text, "dim" if is_done else ""),
    )
