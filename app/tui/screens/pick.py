"""A small dialog: one of a few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen

from app.tui.screens.choose import PickView
from widgets.line import Line, text_of, width_of
from widgets.line_view import LineView


class Pick(ModalScreen[int | None]):
    """Returns the number of the line that was chosen. Letters that are typed go to the next line with them."""

    DEFAULT_CSS = """
    Pick { align: center middle; }
    Pick LineView { width: 64; max-width: 100%; height: auto; max-height: 80%; border: round $primary; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "back", show=False, id="choose.back")]

    def __init__(self, title: str, lines: Sequence[Line]) -> None:
        super().__init__()
        self._title, self._lines = title, list(lines)
        self._typed = ""

    def compose(self) -> ComposeResult:
        view = PickView()
        view.border_title = Content(f"{self._title} (type to find, Enter chooses)")
        view.lines = self._lines
        view.styles.height = len(self._lines) + 2
        view.styles.width = min(100, max([64, *(width_of(each) + 6 for each in self._lines)]))
        yield view

    def on_key(self, event: events.Key) -> None:
        if event.key == "backspace":
            self._typed = self._typed[:-1]
        elif event.is_printable and event.character is not None:
            self._typed += event.character
        else:
            return
        event.stop()
        event.prevent_default()
        self._find()

    def _find(self) -> None:
        view = self.query_one(LineView)
        wanted = self._typed.lower()
        view.border_subtitle = Content(self._typed)
        for index, each in enumerate(self._lines):
            if wanted in text_of(each).lower():
                view.move_to(index)
                return

    def on_line_view_picked(self, event: LineView.Picked) -> None:
        self.dismiss(event.index)
