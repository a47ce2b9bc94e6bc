"""A question before something is destroyed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from widgets.bar import Bar
from widgets.field import Field
from widgets.line import Line, line, width_of
from widgets.line_view import LineView


class Confirm(ModalScreen[bool]):
    """Asks; `y` agrees. Where `word` is given it must be typed instead. Everything else declines."""

    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm > Vertical {
        width: 64; max-width: 100%; height: auto; max-height: 100%; border: round $error; padding: 0 1;
    }
    Confirm LineView { height: auto; max-height: 12; }
    Confirm Input { margin: 1 0 0 0; }
    Confirm Bar { height: 1; margin: 1 0 0 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "decline", "no", show=False, id="confirm.no"),
        Binding("y", "agree", "yes", show=False, id="confirm.yes"),
        Binding("n,enter,q", "decline", "no", show=False, id="confirm.no_too"),
    ]

    def __init__(
        self, question: str, details: Sequence[Line] = (), *, word: str | None = None, verb: str = "Yes"
    ) -> None:
        super().__init__()
        self.question = question
        self._details = list(details)
        self._word = word
        self._verb = verb

    def compose(self) -> ComposeResult:
        body = LineView()
        body.can_focus = False
        body.lines = [line((self.question, "title")), *self._details]
        with Vertical():
            yield body
            if self._word is not None:
                yield Field(placeholder=self._word, select_on_focus=False, compact=True)
            yield Bar()

    def on_mount(self) -> None:
        body = self.query_one(LineView)
        body.styles.height = len(body.lines)
        box = self.query_one(Vertical)
        box.styles.width = min(max(50, *(width_of(each) + 4 for each in body.lines)), 100)
        if self._word is None:
            self.query_one(Bar).set(line(("y", "strong"), f" {self._verb}   ", ("n Esc", "strong"), " leave it"))
        else:
            self.query_one(Bar).set(
                line(
                    f"type {self._word} and ",
                    ("Enter", "strong"),
                    f" to {self._verb}   ",
                    ("Esc", "strong"),
                    " leave it",
                )
            )
            self.query_one(Input).focus()

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value.strip() == self._word)

    def action_agree(self) -> None:
        if self._word is None:
            self.dismiss(True)

    def action_decline(self) -> None:
        self.dismiss(False)

    def on_click(self, event: events.Click) -> None:
        if event.widget is self:
            self.dismiss(False)
