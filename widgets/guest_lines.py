"""The rows of the guest table as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backends.model import GuestRef
from widgets.glyphs import GLYPHS
from widgets.guest_layout import heading, lay_out
from widgets.guest_order import Order
from widgets.guest_row import GuestRow
from widgets.line import Line, Span


class GuestLines:
    """Knows the columns that fit, and makes each line once while nothing of it changes."""

    def __init__(self) -> None:
        self.layout = lay_out(80)
        self._cache: dict[GuestRef, tuple[GuestRow, bool, bool, Line]] = {}

    def fit(self, width: int, hidden: frozenset[str], name_width: int) -> None:
        """Choose the columns for a width."""
        layout = lay_out(width, hidden, name_width)
        if layout != self.layout:
            self.layout = layout
            self._cache.clear()

    def forget(self) -> None:
        """Make all lines anew."""
        self._cache.clear()

    def heading(self, order: Order) -> Line:
        """The line above all."""
        return heading(self.layout, order.sort, order.reverse)

    def line(self, row: GuestRow | str, *, is_marked: bool, is_cursor: bool) -> Line:
        """The line of a guest, or of a group's heading."""
        if isinstance(row, str):
            return ((f"  {row}", "title"),)
        cached = self._cache.get(row.ref)
        if cached is not None and cached[0] == row and cached[1] == is_marked and cached[2] == is_cursor:
            return cached[3]
        if len(self._cache) > 4000:  # guests come and go
            self._cache.clear()
        made = self._make(row, is_marked, is_cursor)
        self._cache[row.ref] = (row, is_marked, is_cursor, made)
        return made

    def _make(self, row: GuestRow, is_marked: bool, is_cursor: bool) -> Line:
        gutter = (GLYPHS.cursor if is_cursor else " ") + (GLYPHS.mark if is_marked else " ")
        spans: list[Span] = [(gutter, "accent" if is_marked else "")]
        for column, width in self.layout.columns:
            cell = column.cell(row, width)
            # What no longer moves must not look alive; the state alone keeps its own look.
            is_old = row.stale_s is not None and column.name != "state"
            spans.extend([(text, "dim") for text, _ in cell] if is_old else cell)
            spans.append((" ", ""))
        return _merge(spans)


def with_headings(rows: Sequence[GuestRow]) -> list[GuestRow | str]:
    """The rows below the headings of their groups."""
    shown: list[GuestRow | str] = []
    groups: dict[str, list[GuestRow]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    for title, members in groups.items():
        shown.append(f"{title} {GLYPHS.dot} {_summary(members)}")
        shown.extend(members)
    return shown


def _summary(members: Sequence[GuestRow]) -> str:
    live = sum(row.guest.state.is_live for row in members)
    if any(row.stale_s is not None for row in members):
        return f"no answer, {live} of {len(members)} were live"
    return f"{live} of {len(members)} live"


def _merge(spans: Iterable[Span]) -> Line:
    """Join neighbours of one role: fewer segments to draw."""
    out: list[Span] = []
    text, role = "", None
    for piece, of in spans:
        if of == role or (piece.isspace() and role is not None):
            text += piece
        else:
            if text and role is not None:
                out.append((text, role))
            text, role = piece, of
    if text and role is not None:
        out.append((text, role))
    return tuple(out)
