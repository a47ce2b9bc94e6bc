"""The line of news at the bottom, which takes more lines when what it has to say is long."""

from __future__ import annotations

from textual import events
from textual.strip import Strip

from widgets.bar import Bar
from widgets.line import EMPTY, Line, text_of, width_of, wrap
from widgets.text import fit

MOST = 4
"""Lines it takes at most; an error of other people's making may have any length."""


class NewsBar(Bar):
    """As a Bar, but what does not fit goes on below; `right` then stands in the last line if there is room."""

    def __init__(self, *, id: str | None = None, most: int = MOST) -> None:
        super().__init__(id=id)
        self._most = most
        self._folded: list[Line] = [EMPTY]

    def set(self, left: Line, right: Line = EMPTY) -> None:
        """Show this."""
        if (left, right) != (self.left, self.right):
            super().set(left, right)
            self._fold()

    def on_resize(self, event: events.Resize) -> None:
        """A narrower line needs more of them."""
        self._fold()

    def _fold(self) -> None:
        width = self.size.width
        if not width or width_of(self.left) <= width:
            self._folded = [self._joined()]
        else:
            pieces = wrap(self.left, width, 1)
            if len(pieces) > self._most:
                cut = text_of(pieces[self._most - 1]) + text_of(pieces[self._most])
                pieces[self._most - 1 :] = [((fit(cut, width), self.left[-1][1]),)]
            room = width - width_of(pieces[-1]) - width_of(self.right)
            if self.right and room >= 1:
                pieces[-1] = (*pieces[-1], (" " * room, ""), *self.right)
            self._folded = pieces
        height = self.styles.height
        if height is None or height.value != len(self._folded):
            self.styles.height = len(self._folded)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        spans = self._folded[y] if y < len(self._folded) else EMPTY
        return self._painter.draw(spans, self.size.width)
