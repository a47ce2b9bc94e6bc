"""A table of things with a cursor, marks, an order and a filter; what things they are, a subclass says."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from widgets.glyphs import GLYPHS
from widgets.line import Line, Span
from widgets.line_view import LineView
from widgets.text import clean, fit, fit_ends

R = TypeVar("R")

GUTTER = 2
"""Cells left of the first column: the cursor's sign and the mark."""


@dataclass(frozen=True, slots=True)
class ListColumn(Generic[R]):
    """One column: how it is headed, what it shows of a row, and how rows are ordered by it."""

    name: str
    title: str
    letter: str
    """Key in the dialog that sorts."""

    width: int
    meaning: str
    cell: Callable[[R], Span]
    """Text and look; other people's text may come as it is."""

    sort: Callable[[R], Any]
    """None comes last."""

    right: bool = False
    priority: int = 0
    """0: always shown; else the higher the sooner it is left out."""

    most: int = 0
    """It may grow to this width where there is room."""

    largest_first: bool = False
    keeps_end: bool = False
    """True if what is too long says the most at its end: a registry's images, many of which begin alike."""


class ListTable(LineView, Generic[R]):
    """Rows in, messages out. The cursor stays on its row when the order changes."""

    has_cursor = True
    columns: ClassVar[tuple[ListColumn[Any], ...]] = ()
    first_sort: ClassVar[str] = "name"
    filter_hint: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark", show=False, id="mark.toggle"),
        Binding("asterisk", "mark_all", "mark all shown", show=False, id="mark.all"),
        Binding("backslash", "clear_marks", "clear the marks", show=False, id="mark.clear"),
        Binding("O", "reverse", "reverse the order", show=False, id="view.reverse"),
        Binding("enter", "pick", "details", show=False, id="view.open"),
    ]

    @dataclass
    class ViewChanged(Message):
        """Marks, filter or order changed."""

        table: ListTable[Any]

        @property
        def control(self) -> ListTable[Any]:
            return self.table

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: Sequence[R] = ()
        self.shown: list[R] = []
        self.marks: set[Hashable] = set()
        self.filter_text = ""
        self.filter_problem = ""
        self.sort_name, self.is_reversed = self.first_sort, False
        self.selected: Hashable | None = None
        self._tests: list[Callable[[R], bool]] = []
        self._layout: list[tuple[ListColumn[R], int]] = []

    # ---- what a subclass says

    def key_of(self, row: R) -> Hashable:
        """What the row is known by, whatever changes of it."""
        raise NotImplementedError

    def words_of(self, row: R) -> str:
        """The text that the filter looks through."""
        raise NotImplementedError

    def properties_of(self, row: R) -> Mapping[str, str]:
        """What `key:value` of the filter asks for."""
        return {}

    # ---- data in

    def update(self, rows: Sequence[R]) -> None:
        """Show these."""
        self.rows = rows
        self.marks &= {self.key_of(row) for row in rows}
        self._rebuild()

    def set_filter(self, text: str) -> None:
        """Show only rows that fit all words: expressions, `!` for all but those, `key:value`."""
        self.filter_text, self.filter_problem, self._tests = text, "", []
        for word in text.split():
            negated = word.startswith("!") and len(word) > 1
            try:
                test = self._test(word[1:] if negated else word)
            except re.error as error:
                self.filter_problem = f"{word}: {error}"
                continue
            self._tests.append(_negated(test) if negated else test)
        self._rebuild()
        self.post_message(self.ViewChanged(self))

    def set_sort(self, name: str, *, reverse: bool | None = None) -> None:
        """Sort by a column; by the same again: the other way round."""
        turned = not self.is_reversed if name == self.sort_name else False
        self.sort_name, self.is_reversed = name, turned if reverse is None else reverse
        self._rebuild()
        self.post_message(self.ViewChanged(self))

    @property
    def current(self) -> R | None:
        """The row under the cursor."""
        return self.shown[self.cursor] if self.cursor < len(self.shown) else None

    @property
    def chosen(self) -> list[R]:
        """The marked rows, or the one under the cursor if none is marked."""
        if self.marks:
            return [row for row in self.rows if self.key_of(row) in self.marks]
        return [self.current] if self.current is not None else []

    @property
    def hidden_count(self) -> int:
        """Rows that the filter keeps from the table."""
        return len(self.rows) - len(self.shown)

    def select(self, key: Hashable) -> bool:
        """Put the cursor on a row; False if it is not shown."""
        for index, row in enumerate(self.shown):
            if self.key_of(row) == key:
                self.move_to(index)
                return True
        return False

    def _test(self, word: str) -> Callable[[R], bool]:
        key, colon, value = word.partition(":")
        if colon and key.lower() in self._known_properties():
            wanted = value.lower()
            return lambda row: self.properties_of(row).get(key.lower(), "").lower().startswith(wanted)
        pattern = re.compile(word, 0 if any(c.isupper() for c in word) else re.IGNORECASE)
        return lambda row: pattern.search(self.words_of(row)) is not None

    def _known_properties(self) -> Iterable[str]:
        return self.properties_of(self.rows[0]) if self.rows else ()

    # ---- what is shown

    def _rebuild(self) -> None:
        column = next(each for each in self.columns if each.name == self.sort_name)
        visible = [row for row in self.rows if all(test(row) for test in self._tests)]
        known = [row for row in visible if column.sort(row) is not None]
        known.sort(key=column.sort, reverse=self.is_reversed != column.largest_first)
        self.shown = known + [row for row in visible if column.sort(row) is None]
        keys = [self.key_of(row) for row in self.shown]
        self.cursor = keys.index(self.selected) if self.selected in keys else min(self.cursor, max(0, len(keys) - 1))
        before = self.selected
        self.selected = keys[self.cursor] if keys else None
        self._redraw()
        if before != self.selected:
            self.post_message(self.Moved(self, self.cursor))

    def _redraw(self) -> None:
        self._layout = self._lay_out(max(20, self.line_width))
        self.show([self._line(row, index) for index, row in enumerate(self.shown)], head=self._heading())

    def _lay_out(self, width: int) -> list[tuple[ListColumn[R], int]]:
        wanted = list(self.columns)

        def used() -> int:
            return GUTTER + sum(column.width + 1 for column in wanted) - 1

        while used() > width and any(column.priority for column in wanted):
            worst = max(column.priority for column in wanted)
            wanted = [column for column in wanted if column.priority != worst]
        spare = width - used()
        layout: list[tuple[ListColumn[R], int]] = []
        for column in wanted:
            own = column.width
            if spare < 0 and column.most:
                own, spare = max(6, own + spare), 0
            elif spare > 0 and column.most > own:
                longest = max([len(column.cell(row)[0]) for row in self.shown], default=0)
                more = min(spare, max(0, min(column.most, longest) - own))
                own, spare = own + more, spare - more
            layout.append((column, own))
        return layout

    def _heading(self) -> Line:
        spans: list[Span] = [(" " * GUTTER, "head")]
        for column, width in self._layout:
            title = column.title
            if column.name == self.sort_name:
                sign = GLYPHS.up if self.is_reversed == column.largest_first else GLYPHS.down
                title = (title + sign) if len(title) < width else title[: width - 1] + sign
            spans.append((fit(title, width, right=column.right) + " ", "head"))
        return tuple(spans)

    def _line(self, row: R, index: int) -> Line:
        marked = self.key_of(row) in self.marks
        gutter = (GLYPHS.cursor if index == self.cursor else " ") + (GLYPHS.mark if marked else " ")
        spans: list[Span] = [(gutter, "accent" if marked else "")]
        for column, width in self._layout:
            text, role = column.cell(row)
            shown = fit_ends(clean(text), width) if column.keeps_end else fit(clean(text), width, right=column.right)
            spans += [(shown, role), (" ", "")]
        return tuple(spans)

    def move_to(self, index: int, *, tell: bool = True) -> None:
        if not self.shown:
            return
        before = self.cursor
        super().move_to(index, tell=tell)
        self.selected = self.key_of(self.shown[self.cursor])
        if before != self.cursor:
            lines = list(self.lines)
            for each in (before, self.cursor):
                if each < len(self.shown):
                    lines[each] = self._line(self.shown[each], each)
            self.lines = lines

    def on_resize(self, event: events.Resize) -> None:
        self._redraw()

    # ---- keys

    def action_mark(self) -> None:
        if self.current is not None:
            self.marks ^= {self.key_of(self.current)}
            self._redraw()
            self.action_move(1)
            self.post_message(self.ViewChanged(self))

    def action_mark_all(self) -> None:
        self.marks |= {self.key_of(row) for row in self.shown}
        self._redraw()
        self.post_message(self.ViewChanged(self))

    def action_clear_marks(self) -> None:
        if self.marks:
            self.marks.clear()
            self._redraw()
            self.post_message(self.ViewChanged(self))

    def action_reverse(self) -> None:
        self.set_sort(self.sort_name)

    async def _on_click(self, event: events.Click) -> None:
        if event.y == 0:
            at = GUTTER
            for column, width in self._layout:
                if at <= event.x < at + width + 1:
                    self.set_sort(column.name)
                at += width + 1
            return
        await super()._on_click(event)


def _negated(test: Callable[[R], bool]) -> Callable[[R], bool]:
    return lambda row: not test(row)
