"""Charts of what a guest did: braille areas, newest at the right, the limit drawn as a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip

from widgets.braille import BLANK, braille_rows
from widgets.glyphs import GLYPHS
from widgets.line import Role, Span, width_of
from widgets.line_view import LineView
from widgets.text import fit
from widgets.units import quantity, with_unit

AXIS = 8
"""Cells for the labels of the axis."""

QUIET_HEIGHT = 3
"""Lines for charts in which nothing is to be seen."""


@dataclass(frozen=True, slots=True)
class Series:
    """One chart: up to two lines of figures and a limit."""

    title: str
    unit: str
    role: Role
    values: tuple[float | None, ...]
    """Oldest first; the newest stands at the right edge."""

    limit: float | None = None
    limit_word: str = "limit"
    is_hard: bool = True
    """False if it is no limit that was set, only what there is: then the scale may end below it."""

    floor: float = 1.0
    """The scale never ends below this, so that noise looks like noise."""

    def is_quiet(self, count: int) -> bool:
        """True if there is nothing to see in the last so many values."""
        has_limit = self.limit is not None and self.is_hard
        return not has_limit and all(value is None or value < self.floor / 10 for value in self.values[-count:])


class HistoryChart(LineView, can_focus=False):
    """Several charts in one widget, in one column or two; only rows that differ are drawn again."""

    has_bar = False

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.series: Sequence[Series] = ()
        self.interval_s = 1.0
        self._canvas: list[list[Segment]] = []

    def plot(self, series: Sequence[Series], interval_s: float) -> None:
        """Show these charts; points are `interval_s` apart."""
        self.series, self.interval_s = series, interval_s
        self._paint()

    def on_resize(self) -> None:
        self._paint()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._canvas = []
        if self.is_mounted:
            self._paint()

    def render_line(self, y: int) -> Strip:
        if y < len(self._canvas):
            return Strip(self._canvas[y], self.size.width)
        return Strip([Segment(" " * self.size.width, self.style_of(""))], self.size.width)

    def _paint(self) -> None:
        width, height = self.size
        if not width or not height:
            return
        new = self._compose_charts(width, height)
        old, self._canvas = self._canvas, new
        changed = [y for y in range(max(len(old), len(new))) if y >= len(old) or y >= len(new) or old[y] != new[y]]
        if changed:
            self.refresh(*[Region(0, y, width, 1) for y in changed])

    def _compose_charts(self, width: int, height: int) -> list[list[Segment]]:
        count = len(self.series)
        columns = 2 if width >= 2 * (AXIS + 24) and count > 1 else 1
        rows = -(-count // columns) or 1
        while rows > 1 and height // rows < 4:
            rows -= 1  # rather fewer charts than flat ones
        groups = [self.series[at : at + columns] for at in range(0, min(count, rows * columns), columns)]
        cell_width = (width - (columns - 1)) // columns
        out: list[list[Segment]] = []
        for group, each in zip(groups, _heights(groups, height, 2 * max(1, cell_width - AXIS)), strict=True):
            pictures = [self._chart(one, cell_width, each) for one in group]
            for y in range(each):
                line: list[Segment] = []
                for index, picture in enumerate(pictures):
                    line += [Segment(" ", self.style_of(""))] if index else []
                    line += picture[y]
                used = sum(len(segment.text) for segment in line)
                out.append([*line, Segment(" " * (width - used), self.style_of(""))])
        return out

    def _chart(self, series: Series, width: int, height: int) -> list[list[Segment]]:
        plot_width, plot_height = max(1, width - AXIS), max(1, height - 1)
        values = list(series.values[-2 * plot_width :])
        known = [value for value in values if value is not None]
        top = scale_top(
            max([series.floor, *known]),
            series.limit,
            is_hard=series.is_hard,
            base=1024 if series.unit.startswith("bytes") else 1000,
        )
        limit_row = None
        if series.limit is not None and series.limit <= top:
            limit_row = plot_height - 1 - min(plot_height - 1, int(series.limit / top * plot_height * 0.9999))
        lines = [self._title(series, width, known[-1] if known and values[-1] is not None else None, top)]
        cells = braille_rows(values, top, plot_width, plot_height)
        for y, text in enumerate(cells):
            label = quantity(top, series.unit) if y == 0 else ("0" if y == plot_height - 1 and plot_height > 1 else "")
            if y == limit_row:
                label = series.limit_word
            lines.append(self._plot_line(label, text, series.role, is_limit=y == limit_row))
        return lines

    def _title(self, series: Series, width: int, last: float | None, top: float) -> list[Segment]:
        told = with_unit(last, series.unit)
        spans: list[Span] = [(series.title, "strong"), (f" {told}", "")]
        if series.limit is not None:
            spans.append((f"  {series.limit_word} {with_unit(series.limit, series.unit)}", "limit"))
        span = 2 * max(1, width - AXIS) * self.interval_s
        ago = f"{_ago(span)} "
        room = width - width_of(tuple(spans)) - len(ago)
        if room > 0:
            spans += [(" " * room, ""), (ago, "dim")]
            return [Segment(text, self.style_of(role)) for text, role in spans]
        return [Segment(fit("".join(text for text, _ in spans), width), self.style_of("strong"))]

    def _plot_line(self, label: str, text: str, role: str, *, is_limit: bool) -> list[Segment]:
        axis = Segment(
            fit(label, AXIS - 2, right=True) + " " + GLYPHS.upright, self.style_of("limit" if is_limit else "dim")
        )
        if not is_limit:
            return [axis, Segment(text, self.style_of(role))]
        # The limit shows where there is no area; the area keeps its colour, so both can be seen.
        segments = [axis]
        for piece, is_blank in _split(text, BLANK):
            segments.append(
                Segment(GLYPHS.rule * len(piece) if is_blank else piece, self.style_of("limit" if is_blank else role))
            )
        return segments


def _heights(groups: Sequence[Sequence[Series]], height: int, points: int) -> list[int]:
    """Lines for each row of charts: quiet ones need few, what moves gets the rest."""
    quiet = [all(one.is_quiet(points) for one in group) for group in groups]
    equal = height // (len(groups) or 1)
    if equal <= QUIET_HEIGHT or all(quiet):
        return [equal] * len(groups)
    share = (height - QUIET_HEIGHT * sum(quiet)) // (len(groups) - sum(quiet))
    return [QUIET_HEIGHT if each else share for each in quiet]


def scale_top(highest: float, limit: float | None, *, is_hard: bool = True, base: int = 1000) -> float:
    """End of the axis: a handy number above all values and above the limit, so that its line can be seen."""
    if limit is not None and highest < limit and (is_hard or limit <= highest * 8):
        highest = limit
    return nice(highest, base)


def nice(value: float, base: int = 1000) -> float:
    """The next handy number: 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten, times a power of the base."""
    power = 1.0
    while value / power >= base:
        power *= base
    for tens in (1, 10, 100, 1000):
        for step in (1, 1.5, 2, 3, 4, 5, 6, 8):
            if value <= step * tens * power:
                return min(step * tens, base) * power
    return value


def _split(text: str, blank: str) -> list[tuple[str, bool]]:
    pieces: list[tuple[str, bool]] = []
    for character in text:
        is_blank = character == blank
        if pieces and pieces[-1][1] == is_blank:
            pieces[-1] = (pieces[-1][0] + character, is_blank)
        else:
            pieces.append((character, is_blank))
    return pieces


def _ago(seconds: float) -> str:
    return f"last {seconds:.0f} s" if seconds < 120 else f"last {seconds / 60:.0f} min"
