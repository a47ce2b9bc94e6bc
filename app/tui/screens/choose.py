"""Small dialogs: sort by which column, show which columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from widgets.glyphs import GLYPHS
from widgets.guest_column import COLUMNS
from widgets.line import Line, line
from widgets.line_view import LineView
from widgets.text import fit

_CSS = """
{name} {{ align: center middle; }}
{name} LineView {{ width: 100; max-width: 100%; height: auto; max-height: 100%; border: round $primary; padding: 0 1; }}
"""


class Sortable(Protocol):
    """A column that one can sort by."""

    @property
    def name(self) -> str: ...

    @property
    def letter(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def meaning(self) -> str: ...


class PickView(LineView):
    """A list with a cursor; Enter picks."""

    has_cursor = True
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "pick", "choose", show=False, id="choose.pick")]


class SortChooser(ModalScreen[str | None]):
    """Returns the column to sort by: its letter, or Enter on it."""

    DEFAULT_CSS = _CSS.format(name="SortChooser")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "back", show=False, id="choose.back")]

    def __init__(self, current: str, columns: Sequence[Sortable] = COLUMNS) -> None:
        super().__init__()
        self._columns = [column for column in columns if column.letter]
        self._current = current

    def compose(self) -> ComposeResult:
        view = PickView()
        view.border_title = "Sort by (the same again: the other way round)"
        view.lines = [self._line(column.name, column.letter, column.title, column.meaning) for column in self._columns]
        view.cursor = next((i for i, column in enumerate(self._columns) if column.name == self._current), 0)
        view.styles.height = len(view.lines) + 2
        yield view

    def _line(self, name: str, letter: str, title: str, meaning: str) -> Line:
        sign = GLYPHS.here if name == self._current else " "
        return line((letter, "head"), f" {sign} ", (fit(title, 10), "strong"), (meaning, "dim"))

    def on_key(self, event: events.Key) -> None:
        for column in self._columns:
            if column.letter == event.character:
                event.stop()
                event.prevent_default()
                self.dismiss(column.name)
                return

    def on_line_view_picked(self, event: LineView.Picked) -> None:
        self.dismiss(self._columns[event.index].name)


class ColumnChooser(ModalScreen[frozenset[str] | None]):
    """Returns the names of the columns that are not to be shown."""

    DEFAULT_CSS = _CSS.format(name="ColumnChooser")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,b", "done", "done", show=False, id="choose.done"),
        Binding("space", "flip", "show or hide", show=False, id="choose.toggle"),
    ]

    def __init__(self, hidden: frozenset[str]) -> None:
        super().__init__()
        self._hidden = set(hidden)
        self._columns = [column for column in COLUMNS if column.priority]

    def compose(self) -> ComposeResult:
        view = PickView()
        view.border_title = "Columns (Space shows or hides, Esc is done)"
        view.lines = self._lines()
        view.styles.height = len(view.lines) + 2
        yield view

    def _lines(self) -> list[Line]:
        return [
            line(
                "[ ] " if column.name in self._hidden else "[x] ",
                (fit(column.title or "bar", 10), "strong"),
                (column.meaning, "dim"),
            )
            for column in self._columns
        ]

    def action_flip(self) -> None:
        view = self.query_one(LineView)
        self._hidden ^= {self._columns[view.cursor].name}
        view.show(self._lines())

    def on_line_view_picked(self, event: LineView.Picked) -> None:
        self.action_flip()

    def action_done(self) -> None:
        self.dismiss(frozenset(self._hidden))
