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


class _Text(Field):
    """After Enter it puts keys aside: they are for whatever comes when the prompt has gone."""

    is_closed = False

    def __init__(self, value: str, *, placeholder: str, password: bool) -> None:
        super().__init__(value, placeholder=placeholder, password=password, select_on_focus=False, compact=True)
        self.later: list[events.Key] = []

    async def on_key(self, event: events.Key) -> None:
        if self.is_closed:
            event.stop()
            event.prevent_default()
            self.later.append(event)
        elif event.key == "enter":
            self.is_closed = True  # what it means is done by Field, after this


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
        self._is_ready = self._is_done = False

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Bar(classes="-label")
            yield _Text(self._value, placeholder=self._hint, password=self._is_secret)
        yield Bar(classes="-problem")

    def on_mount(self) -> None:
        label = line((f" {self._label} ", "head"))
        bar = self.query_one(".-label", Bar)
        bar.styles.width = width_of(label)
        bar.set(label)
        self.query_one(".-problem", Bar).display = False
        self.query_one(Input).focus()
        self._is_ready = True
        early, self._early = self._early, []
        for event in early:
            self._type(event)

    def take_early(self, event: events.Key) -> bool:
        """Take a key that was typed before the input had the focus; False if it is no such key."""
        if not event.is_printable and event.key not in ("enter", "backspace"):
            return False
        if self._is_ready:
            self._type(event)
        else:
            self._early.append(event)
        return True

    def _type(self, event: events.Key) -> None:
        field = self.query_one(_Text)
        if field.is_closed:
            field.later.append(event)
            if self._is_done:
                self._hand_on()
        elif event.key == "enter":
            field.is_closed = True
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
            self._is_done = True
            self.dismiss(value)
            self._hand_on()
            return
        self._reopen()
        bar = self.query_one(".-problem", Bar)
        bar.display = True
        bar.set(line((f" {problem}", "bad")))

    def _hand_on(self) -> None:
        """Let the keys that came after Enter have their turn again, as if they were typed now."""
        field = self.query_one(_Text)
        later, field.later = field.later, []
        for event in later:
            self.app.post_message(events.Key(event.key, event.character))

    def _reopen(self) -> None:
        self.query_one(_Text).is_closed = False
        self._hand_on()

    def action_back(self) -> None:
        self.dismiss(None)
