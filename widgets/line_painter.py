"""Lines become strips of styled text, each drawn once while nothing of it changes."""

from __future__ import annotations

from collections.abc import Callable

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from widgets.line import Line, slice_cells, width_of


class LinePainter:
    """Remembers the looks of roles and the strips of lines."""

    def __init__(self, look: Callable[[str], Style]) -> None:
        """`look` asks the style sheet for the look of a role; it is slow."""
        self._look = look
        self._styles: dict[str, Style] = {}
        self._strips: dict[int, tuple[Line, int, Strip]] = {}

    def style_of(self, role: str) -> Style:
        """The look of a role."""
        found = self._styles.get(role)
        if found is None:
            found = self._styles[role] = self._look(role)
        return found

    def forget(self) -> None:
        """The style sheet or the theme changed."""
        self._styles.clear()
        self._strips.clear()

    def forget_strips(self) -> None:
        """The lines have other numbers now."""
        self._strips.clear()

    def trim(self, most: int) -> None:
        """Forget all strips if there are more than that."""
        if len(self._strips) > most:
            self._strips.clear()

    def strip(
        self,
        index: int,
        spans: Line,
        width: int,
        cursor_role: str,
        shift: int,
        version: int,
        decorate: Callable[[Line], Line],
    ) -> Strip:
        """The line of that number as a strip; its first `shift` cells are left out."""
        state = hash((width, cursor_role, shift, version))
        cached = self._strips.get(index)
        if cached is not None and cached[0] is spans and cached[1] == state:
            return cached[2]
        strip = self.draw(decorate(spans), width, cursor_role, shift)
        self._strips[index] = (spans, state, strip)
        return strip

    def draw(self, spans: Line, width: int, cursor_role: str = "", shift: int = 0) -> Strip:
        """A line as a strip of exactly that width; a cursor's role covers all others."""
        used = width_of(spans)
        if used > width or shift:
            spans = slice_cells(spans, shift, width)
            used = width_of(spans)
        look = self.style_of(cursor_role) if cursor_role else None
        segments = [Segment(text, look or self.style_of(role)) for text, role in spans if text]
        if used < width:
            segments.append(Segment(" " * (width - used), look or self.style_of("")))
        return Strip(segments, width)
