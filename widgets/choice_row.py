"""A few things in one line, one of them under the cursor: switches, or buttons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from widgets.line import Line, Span, line, width_of
from widgets.line_view import LineView


class ChoiceRow(LineView):
    """Left and right move, Enter and Space choose; what is chosen a message tells."""

    has_bar = False
    DEFAULT_CSS = """
    ChoiceRow { height: 1; overflow-y: hidden; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "turn(-1)", "left", show=False, id="form.left"),
        Binding("right", "turn(1)", "right", show=False, id="form.right"),
        Binding("space,enter", "choose", "choose", show=False, id="form.choose"),
        Binding("down", "app.focus_next", "next field", show=False, id="form.next"),
        Binding("up", "app.focus_previous", "previous field", show=False, id="form.previous"),
    ]

    @dataclass
    class Chosen(Message):
        """One was chosen."""

        row: ChoiceRow
        index: int

        @property
        def control(self) -> ChoiceRow:
            return self.row

    @dataclass
    class Turned(Message):
        """Another one is under the cursor."""

        row: ChoiceRow

        @property
        def control(self) -> ChoiceRow:
            return self.row

    def __init__(
        self, titles: Sequence[str], *, id: str | None = None, has_states: bool = False, lead: int = 1
    ) -> None:
        """With states each is on or off and shows which. `lead`: blanks at the left."""
        super().__init__(id=id)
        self._titles, self._has_states, self._lead = list(titles), has_states, lead
        self.on: frozenset[int] = frozenset()
        self.at = 0

    def turn_on(self, indexes: frozenset[int]) -> None:
        """Show which are on."""
        if indexes != self.on:
            self.on = indexes
            self.refresh()

    def _pieces(self) -> list[Line]:
        pieces: list[Line] = []
        for index, title in enumerate(self._titles):
            sign = ("[x] " if index in self.on else "[ ] ") if self._has_states else ""
            text = f"{sign}{title}" if self._has_states else f"[ {title} ]"
            here = self.has_focus and index == self.at
            pieces.append(line((text, "hit" if here else "strong" if index in self.on or not self._has_states else "")))
        return pieces

    def render_line(self, y: int) -> Strip:
        spans: list[Span] = [(" " * self._lead, "")]
        for piece in self._pieces():
            spans += [*piece, ("  ", "")]
        return self._painter.draw(tuple(spans), self.size.width)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def action_turn(self, by: int) -> None:
        self.at = max(0, min(len(self._titles) - 1, self.at + by))
        self.refresh()
        self.post_message(self.Turned(self))

    def action_choose(self) -> None:
        self.post_message(self.Chosen(self, self.at))

    async def _on_click(self, event: events.Click) -> None:
        left = self._lead
        for index, piece in enumerate(self._pieces()):
            if left <= event.x < left + width_of(piece):
                self.at = index
                self.refresh()
                self.action_choose()
            left += width_of(piece) + 2
