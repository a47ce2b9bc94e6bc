"""Every guest of this host, one row each, live."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from backends.model import GuestRef
from widgets.guest_filter import GuestFilter, parse_filter
from widgets.guest_lines import GuestLines, with_headings
from widgets.guest_order import Order
from widgets.guest_row import GuestRow
from widgets.line import Line
from widgets.line_view import LineView


class GuestTable(LineView):
    """Rows in, messages out. The cursor stays on its guest when the order changes."""

    has_cursor = True
    empty_text = "no guests"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark", show=False, id="mark.toggle"),
        Binding("v,ctrl+@", "mark_range", "mark from the last mark to here", show=False, id="mark.range"),
        Binding("asterisk", "mark_all", "mark all shown", show=False, id="mark.all"),
        Binding("backslash", "clear_marks", "clear the marks", show=False, id="mark.clear"),
        Binding("t", "toggle_groups", "grouped or flat", show=False, id="view.tree"),
        Binding("a", "toggle_stopped", "show or hide stopped guests", show=False, id="view.stopped"),
        Binding("O", "reverse", "reverse the order", show=False, id="view.reverse"),
        Binding("enter", "pick", "details", show=False, id="view.open"),
    ]

    @dataclass
    class Selected(Message):
        """Another guest is under the cursor; None: there is none."""

        table: GuestTable
        ref: GuestRef | None

        @property
        def control(self) -> GuestTable:
            return self.table

    @dataclass
    class Opened(Message):
        """The user wants the details of a guest."""

        table: GuestTable
        ref: GuestRef

        @property
        def control(self) -> GuestTable:
            return self.table

    @dataclass
    class ViewChanged(Message):
        """Marks, filter, order or grouping changed."""

        table: GuestTable

        @property
        def control(self) -> GuestTable:
            return self.table

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: Sequence[GuestRow] = ()
        self.shown: list[GuestRow | str] = []
        """What stands on each line: a guest, or the heading of a group."""

        self.order = Order()
        self.marks: set[GuestRef] = set()
        self.hide_stopped = False
        self.hidden_columns: frozenset[str] = frozenset()
        self.selected: GuestRef | None = None
        self._filter = parse_filter("")
        self._last_mark: GuestRef | None = None
        self._guest_lines = GuestLines()

    # ---- data in

    def update(self, rows: Sequence[GuestRow], *, sampled: bool = True) -> None:
        """Show these guests. `sampled` says that their figures are a new pass."""
        self.rows = rows
        if sampled:
            self.order.smoother.add(rows)
        self.marks &= {row.ref for row in rows}
        self._rebuild()

    @property
    def filter(self) -> GuestFilter:
        """What is filtered for."""
        return self._filter

    def set_filter(self, text: str) -> None:
        """Show only guests that fit; empty shows all."""
        self._filter = parse_filter(text)
        self._rebuild(follow=True)
        self.post_message(self.ViewChanged(self))

    def set_sort(self, name: str) -> None:
        """Sort by a column; by the same again: the other way round."""
        self.order.change(sort=name, reverse=not self.order.reverse if name == self.order.sort else False)
        self._rebuild(follow=True)
        self.post_message(self.ViewChanged(self))

    def set_hidden_columns(self, names: Iterable[str]) -> None:
        """Leave these columns out."""
        self.hidden_columns = frozenset(names)
        self._relayout()

    def shows(self, name: str) -> bool:
        """True if there is room for a column and it is wanted."""
        return any(column.name == name for column, _ in self._guest_lines.layout.columns)

    @property
    def current(self) -> GuestRow | None:
        """The guest under the cursor."""
        row = self.shown[self.cursor] if self.cursor < len(self.shown) else None
        return row if isinstance(row, GuestRow) else None

    @property
    def chosen(self) -> list[GuestRow]:
        """The marked guests, or the one under the cursor if none is marked."""
        if self.marks:
            return [row for row in self.rows if row.ref in self.marks]
        return [self.current] if self.current is not None else []

    @property
    def hidden_count(self) -> int:
        """Guests that filter and hiding keep from the table."""
        return len(self.rows) - sum(isinstance(row, GuestRow) for row in self.shown)

    def select(self, ref: GuestRef) -> bool:
        """Put the cursor on a guest; False if it is not shown."""
        for index, row in enumerate(self.shown):
            if isinstance(row, GuestRow) and row.ref == ref:
                self.move_to(index)
                return True
        return False

    # ---- what is shown

    def _rebuild(self, *, follow: bool = False) -> None:
        visible = [row for row in self.rows if self._is_shown(row)]
        ordered = self.order.arrange(visible, time.monotonic())
        self.shown = with_headings(ordered) if self.order.grouped else list(ordered)
        self._keep_cursor(follow)
        self._fit_layout(ordered)
        self._redraw()

    def _redraw(self) -> None:
        lines = [self._line(row, index) for index, row in enumerate(self.shown)]
        self.show(lines, head=self._guest_lines.heading(self.order))

    def _line(self, row: GuestRow | str, index: int) -> Line:
        marked = not isinstance(row, str) and row.ref in self.marks
        return self._guest_lines.line(row, is_marked=marked, is_cursor=index == self.cursor)

    def _is_shown(self, row: GuestRow) -> bool:
        if self.hide_stopped and not row.guest.state.is_live and not row.pending:
            return False
        return self._filter(row)

    def _keep_cursor(self, follow: bool) -> None:
        old_cursor = self.cursor
        where = {row.ref: index for index, row in enumerate(self.shown) if isinstance(row, GuestRow)}
        index = where.get(self.selected) if self.selected is not None else None
        if index is None:
            index = self.nearest(min(self.cursor, len(self.shown) - 1), 1) if self.shown else 0
        # The cursor's line keeps its place on the screen when rows move above it.
        top = self.scroll_offset.y
        self.cursor = index
        if index != old_cursor and not follow and top <= old_cursor < top + self.rows_visible:
            self.scroll_to(y=max(0, top + index - old_cursor), animate=False, immediate=True) if top else None
        if follow or index != old_cursor:
            self.call_after_refresh(self.scroll_into_view, index)
        self._tell_selected()

    def _tell_selected(self) -> None:
        ref = self.current.ref if self.current is not None else None
        if ref != self.selected:
            self.selected = ref
            self.post_message(self.Selected(self, ref))

    def nearest(self, index: int, direction: int) -> int:
        count = len(self.shown)
        for step in (direction, -direction):
            at = index
            while 0 <= at < count:
                if isinstance(self.shown[at], GuestRow):
                    return at
                at += step
        return max(0, min(index, count - 1))

    def move_to(self, index: int, *, tell: bool = True) -> None:
        old = self.cursor
        super().move_to(index, tell=tell)
        if self.cursor <= 1 and self.scroll_offset.y:
            self.scroll_to(y=0, animate=False, immediate=True)  # show the first group's heading too
        if old != self.cursor:
            changed = [at for at in (old, self.cursor) if at < len(self.shown)]
            lines = list(self.lines)
            for at in changed:
                lines[at] = self._line(self.shown[at], at)
            self.lines = lines
            self._tell_selected()

    def on_resize(self) -> None:
        self._relayout()
        self.scroll_into_view(self.cursor)

    def _relayout(self) -> None:
        self._guest_lines.forget()
        self._fit_layout([row for row in self.shown if isinstance(row, GuestRow)])
        self._redraw()

    def _fit_layout(self, rows: Sequence[GuestRow]) -> None:
        longest = max((len(row.name) for row in rows), default=0)
        width = self.size.width
        if not width:
            return
        if len(self.shown) + 1 > self.size.height:
            width -= 1  # for the scroll bar that these lines need
        self._guest_lines.fit(width, self.hidden_columns, max(14, longest))

    # ---- keys

    def action_mark(self) -> None:
        row = self.current
        if row is None:
            return
        self.marks ^= {row.ref}
        self._last_mark = row.ref
        self._marks_changed()
        self.action_move(1)

    def action_mark_range(self) -> None:
        refs = [row.ref if isinstance(row, GuestRow) else None for row in self.shown]
        here = self.cursor
        start = refs.index(self._last_mark) if self._last_mark in refs and self._last_mark is not None else here
        low, high = sorted((start, here))
        self.marks |= {ref for ref in refs[low : high + 1] if ref is not None}
        self._last_mark = refs[here]
        self._marks_changed()

    def action_mark_all(self) -> None:
        self.marks |= {row.ref for row in self.shown if isinstance(row, GuestRow)}
        self._marks_changed()

    def action_clear_marks(self) -> None:
        self.marks.clear()
        self._marks_changed()

    def action_toggle_groups(self) -> None:
        self.order.change(grouped=not self.order.grouped)
        self._rebuild(follow=True)
        self.post_message(self.ViewChanged(self))

    def action_toggle_stopped(self) -> None:
        self.hide_stopped = not self.hide_stopped
        self._rebuild(follow=True)
        self.post_message(self.ViewChanged(self))

    def action_reverse(self) -> None:
        self.order.change(reverse=not self.order.reverse)
        self._rebuild(follow=True)
        self.post_message(self.ViewChanged(self))

    def action_pick(self) -> None:
        if self.current is not None:
            self.post_message(self.Opened(self, self.current.ref))

    def _marks_changed(self) -> None:
        self._redraw()
        self.post_message(self.ViewChanged(self))

    async def _on_click(self, event: events.Click) -> None:
        if event.y == 0:
            column = self._guest_lines.layout.column_at(event.x)
            if column is not None and column.letter:
                self.set_sort(column.name)
            return
        await super()._on_click(event)
