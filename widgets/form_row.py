"""One line of a form: what it is, and what is written in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input

from widgets.bar import Bar
from widgets.field import Field
from widgets.glyphs import GLYPHS
from widgets.line import Role, line
from widgets.text import fit

LABEL = 14


class FormRow(Horizontal):
    """A label and a text; tells of every change."""

    DEFAULT_CSS = """
    FormRow { height: 1; }
    FormRow Bar { width: 16; }
    FormRow Input { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        # With priority: the text would take them for itself, and letters that follow in the same packet would still
        # go to the field that one leaves.
        Binding("down,enter", "app.focus_next", "next field", show=False, id="form.next", priority=True),
        Binding("up", "app.focus_previous", "previous field", show=False, id="form.previous", priority=True),
    ]

    @dataclass
    class Changed(Message):
        """Something else is written in it now."""

        row: FormRow
        text: str

        @property
        def control(self) -> FormRow:
            return self.row

    def __init__(self, name: str, title: str, hint: str) -> None:
        super().__init__(id=f"field-{name}")
        self.field_name, self._title, self._hint = name, title, hint
        self._is_bad = False

    def compose(self) -> ComposeResult:
        yield Bar()
        yield Field(placeholder=self._hint, select_on_focus=False, compact=True)

    def on_mount(self) -> None:
        self._draw()

    @property
    def input(self) -> Input:
        """Where one writes."""
        return self.query_one(Input)

    def put(self, text: str) -> None:
        """Write a text without telling of it."""
        if self.input.value != text:
            with self.input.prevent(Input.Changed):
                self.input.value = text

    def hint(self, text: str) -> None:
        """Show another example while it is empty."""
        self.input.placeholder = text

    def suggest(self, words: Sequence[str]) -> None:
        """Offer these while one writes; the right arrow takes one."""
        self.input.suggester = SuggestFromList(list(words))

    def mark(self, is_bad: bool) -> None:
        """Show whether what is written makes sense."""
        if is_bad != self._is_bad:
            self._is_bad = is_bad
            self._draw()

    def _draw(self) -> None:
        role: Role = "bad" if self._is_bad else "dim"
        sign = GLYPHS.warning if self._is_bad else " "
        self.query_one(Bar).set(line((f"{sign}{fit(self._title, LABEL)}", role)))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self, event.value))
