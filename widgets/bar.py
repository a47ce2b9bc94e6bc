"""One line at the edge of the screen: status, message, keys, tabs."""

from __future__ import annotations

from textual.strip import Strip

from widgets.line import EMPTY, Line, width_of
from widgets.line_view import LineView


class Bar(LineView, can_focus=False):
    """Shows one line, repainted only when it differs; `right` is set against the right edge."""

    has_bar = False
    DEFAULT_CSS = """
    Bar { height: 1; overflow-y: hidden; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.left: Line = EMPTY
        self.right: Line = EMPTY

    def set(self, left: Line, right: Line = EMPTY) -> None:
        """Show this."""
        if (left, right) != (self.left, self.right):
            self.left, self.right = left, right
            self.refresh()

    def render_line(self, y: int) -> Strip:
        return self._painter.draw(self._joined(), self.size.width)

    def _joined(self) -> Line:
        width, right = self.size.width, self.right
        gap = width - width_of(self.left) - width_of(right)
        if gap < 1:
            return self.left
        return (*self.left, (" " * gap, ""), *right)
