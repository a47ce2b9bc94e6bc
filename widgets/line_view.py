"""A scrolling list of lines that redraws only the rows that changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from widgets.line import EMPTY, ROLES, Line
from widgets.line_painter import LinePainter


class LineView(ScrollView, can_focus=True):
    """Shows lines; with a cursor if `has_cursor`, under a fixed heading if `head` is set.

    `show` compares with what is there and asks for a repaint of the changed visible rows only.
    """

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"line-view--{role or 'plain'}" for role in ROLES} | {
        "line-view--cursor",
        "line-view--cursor-blurred",
    }
    DEFAULT_CSS = """
    LineView {
        height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1;
        & > .line-view--dim { text-style: dim; }
        & > .line-view--strong { text-style: bold; }
        & > .line-view--head { text-style: bold; color: $primary; }
        & > .line-view--title { text-style: bold; }
        & > .line-view--good { color: $success; }
        & > .line-view--warn { color: $warning; text-style: bold; }
        & > .line-view--bad { color: $error; text-style: bold; }
        & > .line-view--accent { color: $secondary; }
        & > .line-view--cpu { color: $success; }
        & > .line-view--memory { color: $secondary; }
        & > .line-view--io { color: $accent; }
        & > .line-view--net { color: $primary; }
        & > .line-view--limit { color: $error; }
        & > .line-view--hit { text-style: reverse; }
        & > .line-view--cursor { text-style: reverse; }
        & > .line-view--cursor-blurred { text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False, id="move.up"),
        Binding("down,j", "move(1)", "down", show=False, id="move.down"),
        Binding("home,g", "edge(-1)", "first", show=False, id="move.first"),
        Binding("end,G", "edge(1)", "last", show=False, id="move.last"),
        Binding("pageup", "page(-1.0)", "page up", show=False, id="move.page_up"),
        Binding("pagedown", "page(1.0)", "page down", show=False, id="move.page_down"),
        Binding("ctrl+u", "page(-0.5)", "half a page up", show=False, id="move.half_up"),
        Binding("ctrl+d", "page(0.5)", "half a page down", show=False, id="move.half_down"),
    ]

    HINTS: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Its most useful keys and what they do, for the line of keys."""

    has_cursor = False
    has_bar = True
    """False if it never shows a scroll bar."""

    head: Line | None = None
    empty_text = ""
    """Shown instead of nothing."""

    @dataclass
    class Moved(Message):
        """The cursor stands on another line."""

        view: LineView
        index: int

        @property
        def control(self) -> LineView:
            return self.view

    @dataclass
    class Picked(Message):
        """The user chose the line under the cursor."""

        view: LineView
        index: int

        @property
        def control(self) -> LineView:
            return self.view

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.lines: Sequence[Line] = ()
        self._had_bar = False
        self.cursor = 0
        self.shift = 0
        """First cell shown of each line."""

        self.version = 0
        """Raised by a subclass whose `decorate` changed its mind."""

        self._painter = LinePainter(lambda role: self.get_component_rich_style(f"line-view--{role or 'plain'}"))

    # ---- data in

    def show(self, lines: Sequence[Line], *, head: Line | None = None) -> None:
        """Show these lines; only rows that differ are repainted."""
        old, self.lines = self.lines, lines
        if head is not None and head != self.head:
            had, self.head = self.head is not None, head
            self.refresh(*(() if not had else (Region(0, 0, self.size.width, 1),)))
        if len(old) != len(lines):
            self._resize_content()
        if not old or not lines:
            self.refresh()
            return
        top, room = self.scroll_offset.y, self.rows_visible
        changed = [
            index
            for index in range(top, min(top + room, max(len(old), len(lines))))
            if (old[index] if index < len(old) else None) != (lines[index] if index < len(lines) else None)
        ]
        self.refresh_rows(changed)

    def append(self, lines: list[Line], *, drop: int = 0) -> None:
        """Add lines at the end and drop some at the front, without looking at the others."""
        old = list(self.lines) if not isinstance(self.lines, list) else self.lines
        if drop:
            del old[:drop]
            self._painter.forget_strips()
        first = len(old)
        old.extend(lines)
        self.lines = old
        self._resize_content()
        if drop or not first:
            self.refresh()
        else:
            self.refresh_rows(range(first, len(old)))

    @property
    def rows_visible(self) -> int:
        """Rows for lines, the heading left out."""
        return max(0, self.size.height - (self.head is not None))

    @property
    def is_at_end(self) -> bool:
        """True if the last line is on the screen."""
        return self.scroll_offset.y + self.rows_visible >= len(self.lines)

    @property
    def line_width(self) -> int:
        """Cells for a line: the scroll bar takes one as soon as it is needed."""
        return max(0, self.size.width - self._needs_bar)

    @property
    def _needs_bar(self) -> bool:
        return self.has_bar and len(self.lines) + (self.head is not None) > self.size.height

    def refresh_rows(self, indexes: Sequence[int]) -> None:
        """Repaint these lines where they are visible."""
        top, room, width, skip = self.scroll_offset.y, self.rows_visible, self.size.width, self.head is not None
        regions = [Region(0, index - top + skip, width, 1) for index in indexes if top <= index < top + room]
        if regions:
            self.refresh(*regions)

    # ---- cursor and scrolling

    def move_to(self, index: int, *, tell: bool = True) -> None:
        """Put the cursor on a line and bring it into view."""
        index = self.nearest(max(0, min(len(self.lines) - 1, index)), 1 if index >= self.cursor else -1)
        old, self.cursor = self.cursor, index
        self.scroll_into_view(index)
        if old != index:
            self.refresh_rows([old, index])
            if tell:
                self.post_message(self.Moved(self, index))

    def nearest(self, index: int, direction: int) -> int:
        """The line on which the cursor may stand; a subclass skips headings."""
        return index

    def scroll_into_view(self, index: int) -> None:
        """Scroll as little as shows the line."""
        top, room = self.scroll_offset.y, self.rows_visible
        if index < top:
            self.scroll_to(y=index, animate=False, immediate=True)
        elif room and index >= top + room:
            self.scroll_to(y=index - room + 1, animate=False, immediate=True)

    def action_move(self, by: int) -> None:
        if self.has_cursor:
            self.move_to(self.cursor + by)
        else:
            self._scroll_by(by)

    def action_page(self, share: float) -> None:
        by = int(share * max(1, self.rows_visible - 1)) or (1 if share > 0 else -1)
        if self.has_cursor:
            self.move_to(self.cursor + by)
        else:
            self._scroll_by(by)

    def action_edge(self, end: int) -> None:
        if self.has_cursor:
            self.move_to(0 if end < 0 else len(self.lines) - 1)
        else:
            self._scroll_by(end * len(self.lines))

    def action_pick(self) -> None:
        if self.lines:
            self.post_message(self.Picked(self, self.cursor))

    def _scroll_by(self, by: int) -> None:
        self.scroll_to(y=self.scroll_offset.y + by, animate=False, immediate=True)

    async def _on_click(self, event: events.Click) -> None:
        index = self.line_at(event.y)
        if index is None or not self.has_cursor:
            return
        if index == self.cursor and event.chain > 1:
            self.action_pick()
        else:
            self.move_to(index)

    def line_at(self, y: int) -> int | None:
        """The line that is drawn at a row of the widget, if any."""
        row = y - (self.head is not None)
        index = row + self.scroll_offset.y
        return index if row >= 0 and index < len(self.lines) else None

    # ---- drawing

    def _resize_content(self) -> None:
        if self._needs_bar != self._had_bar:
            self._had_bar = self._needs_bar
            self.refresh()
        # ScrollView scrolls over virtual_size: the heading takes a row of the view, so it counts as a line.
        self.virtual_size = Size(0, len(self.lines) + (self.head is not None))
        self._painter.trim(4 * max(64, self.size.height))

    def notify_style_update(self) -> None:
        """Forget the looks: the theme changed."""
        self._painter.forget()
        super().notify_style_update()

    def on_focus(self) -> None:
        if self.has_cursor:
            self.refresh_rows([self.cursor])

    def on_blur(self) -> None:
        if self.has_cursor:
            self.refresh_rows([self.cursor])

    def style_of(self, role: str) -> Style:
        """The look of a role."""
        return self._painter.style_of(role)

    def render_line(self, y: int) -> Strip:
        if self.head is not None:
            if y == 0:
                return self._strip(-1, self.head, "")
            y -= 1
        index = y + self.scroll_offset.y
        if index < len(self.lines):
            is_cursor = self.has_cursor and index == self.cursor
            cursor_role = ("cursor" if self.has_focus else "cursor-blurred") if is_cursor else ""
            return self._strip(index, self.lines[index], cursor_role)
        text = self.empty_text if index == 0 and not self.lines else ""
        return self._strip(-2, ((" " + text, "dim"),) if text else EMPTY, "")

    def _strip(self, index: int, spans: Line, cursor_role: str) -> Strip:
        shift = 0 if index < 0 else self.shift
        return self._painter.strip(index, spans, self.line_width, cursor_role, shift, self.version, self.decorate)

    def decorate(self, spans: Line) -> Line:
        """Change a line just before it is drawn; a subclass marks hits of a search."""
        return spans
