"""Which columns of the guest table fit a width, and how wide each is."""

from __future__ import annotations

from dataclasses import dataclass

from widgets.glyphs import GLYPHS
from widgets.guest_column import COLUMNS, Column
from widgets.line import Line, Span
from widgets.text import fit

GUTTER = 2
"""Cells left of the first column: the cursor's sign and the mark."""

NAME_MAX = 32


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns shown in a terminal of some width, with their widths."""

    columns: tuple[tuple[Column, int], ...]

    def column_at(self, x: int) -> Column | None:
        """The column drawn at a cell."""
        at = GUTTER
        for column, width in self.columns:
            if at <= x < at + width + 1:
                return column
            at += width + 1
        return None


def lay_out(width: int, hidden: frozenset[str] = frozenset(), name_width: int = 14) -> Layout:
    """Choose the columns that fit; name and note take what is left over."""
    wanted = [column for column in COLUMNS if column.name not in hidden or column.priority == 0]

    def used() -> int:
        return GUTTER + sum(column.width + 1 for column in wanted) - 1

    while used() > width and any(column.priority for column in wanted):
        worst = max(column.priority for column in wanted)
        wanted = [column for column in wanted if column.priority != worst]
    widths = {column.name: column.width for column in wanted}
    spare = width - used()
    if spare < 0:
        widths["name"] = max(6, widths["name"] + spare)
    grow = min(max(0, spare), max(0, min(NAME_MAX, name_width) - widths["name"]))
    widths["name"] += grow
    if "note" in widths:
        widths["note"] += max(0, spare - grow)
    return Layout(tuple((column, widths[column.name]) for column in wanted))


def heading(layout: Layout, sort: str, reverse: bool) -> Line:
    """The heading line; a sign shows what it is sorted by."""
    spans: list[Span] = [(" " * GUTTER, "head")]
    for column, width in layout.columns:
        title = column.title
        if column.name == sort:
            sign = GLYPHS.up if reverse == column.largest_first else GLYPHS.down
            title = (title + sign) if len(title) < width else title[: width - 1] + sign
        spans.append((fit(title, width, right=column.right) + " ", "head"))
    return tuple(spans)
