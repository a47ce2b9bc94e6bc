"""One line of text from the user, asked at the bottom of the screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import ModalScreen
from textual.widgets import Input

from widgets.bar import Bar
from widgets.field import Field
from widgets.line import line, width_of

Check = Callable[[str], str]
"""Takes the text and returns what is wrong with it, or ""."""


class Prompt(ModalScreen[str | None]):
    """Returns the text, or None if the user went back. `check` is asked on Enter, `on_change` with every key."""

    DEFAULT_CSS = """
    Prompt { align: left bottom; background: transparent; }
    Prompt Horizontal { height: 1; dock: bottom; background: $panel; }
    Prompt Bar.-label { width: auto; }
    Prompt Bar.-problem { dock: bottom; margin-bottom: 1; background: $panel; }
    Prompt Input { width: 1fr; background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "back", show=False, id="prompt.back")]

    def __init__(
        self,
        label: str,
        value: str = "",
        *,
        hint: str = "",
        check: Check | None = None,
        on_change: Callable[[str], object] | None = None,
        is_secret: bool = False,
    ) -> None:
        """A secret is shown as dots."""
        super().__init__()
        self._is_secret = is_secret
        self._label, self._value, self._hint = label, value, hint
        self._check, self._on_change = check, on_change
        self._early: list[events.Key] = []
        self._is_ready = False

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Bar(classes="-label")
            yield Field(
                self._value, placeholder=self._hint, password=self._is_secret, select_on_focus=False, compact=True
            )
        yield Bar(classes="-problem")

    def on_mount(self) -> None:
        label = line((f" {self._label} ", "head"))
        bar = self.query_one(".-label", Bar)
        bar.styles.width = width_of(label)
        bar.set(label)
        self.query_one(".-problem", Bar).display = False
        self.query_one(Input).focus()
        self._is_ready = True
        for event in self._early:
            self._type(event)

    def take_early(self, event: events.Key) -> bool:
        """Take a key that was typed before the input had the focus; False if it is no such key."""
        if not event.is_printable and (self._is_ready or event.key not in ("enter", "backspace")):
            return False
        if self._is_ready:
            self._type(event)
        else:
            self._early.append(event)
        return True

    def _type(self, event: events.Key) -> None:
        field = self.query_one(Input)
        if event.key == "enter":
            self._submit(field.value)
        elif event.key == "backspace":
            field.action_delete_left()
        elif event.character is not None:
            field.insert_text_at_cursor(event.character)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self._on_change is not None:
            self._on_change(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._submit(event.value)

    def _submit(self, value: str) -> None:
        problem = self._check(value) if self._check is not None else ""
        if not problem:
            self.dismiss(value)
            return
        bar = self.query_one(".-problem", Bar)
        bar.display = True
        bar.set(line((f" {problem}", "bad")))

    def action_back(self) -> None:
        self.dismiss(None)
