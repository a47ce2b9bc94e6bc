"""What a guest printed: follow, times, wrap, search."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from backends.model import LogLine
from widgets.line import Line, Role, Span, line, text_of, wrap
from widgets.line_view import LineView
from widgets.text import clean_bytes

KEPT = 10_000
"""Lines kept; the backend has them all."""

SLACK = 500
"""Lines above KEPT after which the oldest are dropped together."""

MAX_LINE = 4096
"""Bytes of one line that are shown."""


@dataclass(frozen=True, slots=True)
class Printed:
    """One line a guest printed."""

    time_s: float
    stream: str
    text: str


class LogView(LineView):
    """Shows log lines; while it follows, the newest stay in view."""

    HINTS = (("f", "follow"), ("t", "times"), ("w", "wrap"), ("/", "search"), ("^S", "save"))
    empty_text = "nothing printed yet"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "follow the newest", show=False, id="log.follow"),
        Binding("t", "times", "times", show=False, id="log.times"),
        Binding("w", "wrap", "wrap long lines", show=False, id="log.wrap"),
        Binding("slash", "search", "search", show=False, id="log.search"),
        Binding("n", "hit(1)", "next hit", show=False, id="log.next"),
        Binding("N", "hit(-1)", "previous hit", show=False, id="log.previous"),
        Binding("ctrl+s", "save", "save to a file", show=False, id="log.save"),
        Binding("left", "shift(-16)", "left", show=False, id="log.left"),
        Binding("right", "shift(16)", "right", show=False, id="log.right"),
    ]

    class SearchWanted(Message):
        """The user wants to type what to search for."""

    class SaveWanted(Message):
        """The user wants to save what is here."""

    class Changed(Message):
        """An option or the search changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.printed: list[Printed] = []
        self.follows = True
        self.shows_times = False
        self.wraps = False
        self.pattern: re.Pattern[str] | None = None
        self.hits = 0
        self._partial: dict[str, tuple[float, bytes]] = {}
        self._starts: list[int] = []
        """First display line of each printed line."""

    # ---- data in

    def clear(self) -> None:
        """Forget all: another guest."""
        self.printed, self._partial, self._starts = [], {}, []
        self.show([])

    def add(self, pieces: Sequence[LogLine]) -> None:
        """Take over what was printed; pieces without a newline are joined."""
        new = [printed for piece in pieces for printed in self._join(piece)]
        if not new:
            return
        self.printed.extend(new)
        if len(self.printed) > KEPT + SLACK:
            del self.printed[: len(self.printed) - KEPT]
            self._rebuild()
        else:
            self.append(self._display(new, len(self.lines)))
            if self.pattern is not None:
                self.hits += sum(self._is_hit(printed) for printed in new)
        if self.follows:
            self._to_end()

    def finish(self) -> None:
        """No more comes: show what has no newline yet."""
        self.add([LogLine(time_s, stream, b"\n") for stream, (time_s, _) in list(self._partial.items())])

    def search(self, text: str) -> str:
        """Mark what fits the regular expression; return what is wrong with it, or ""."""
        try:
            self.pattern = re.compile(text, 0 if any(c.isupper() for c in text) else re.IGNORECASE) if text else None
        except re.error as error:
            return str(error)
        self.hits = sum(self._is_hit(printed) for printed in self.printed) if self.pattern else 0
        self.version += 1
        self.refresh()
        if self.pattern is not None and self.hits:
            self.action_hit(-1)
        self.post_message(self.Changed())
        return ""

    def _join(self, piece: LogLine) -> list[Printed]:
        began, before = self._partial.pop(piece.stream, (piece.time_s, b""))
        *whole, rest = (before + piece.data).split(b"\n")
        if rest:
            self._partial[piece.stream] = (began, rest[-MAX_LINE:])
        return [
            Printed(began if index == 0 else piece.time_s, piece.stream, _shown(part))
            for index, part in enumerate(whole)
        ]

    # ---- lines

    def _display(self, printed: Sequence[Printed], first: int) -> list[Line]:
        out: list[Line] = []
        for one in printed:
            self._starts.append(first + len(out))
            out += self._lines_of(one)
        return out

    def _lines_of(self, one: Printed) -> list[Line]:
        role: Role = "bad" if one.stream == "stderr" else ""
        spans: list[Span] = []
        if self.shows_times:
            spans.append(
                (time.strftime("%H:%M:%S", time.localtime(one.time_s)) + f".{int(one.time_s % 1 * 1000):03d} ", "dim")
            )
        if role:
            spans.append(("! ", "bad"))  # not by colour alone
        spans.append((one.text, ""))
        made = line(*spans)
        return wrap(made, max(8, self.size.width - 1), 2) if self.wraps else [made]

    def _rebuild(self) -> None:
        self._starts = []
        self._painter.forget_strips()
        self.show([])
        self.append(self._display(self.printed, 0))
        self.refresh()

    def decorate(self, spans: Line) -> Line:
        if self.pattern is None:
            return spans
        out: list[Span] = []
        for text, role in spans:
            at = 0
            for match in self.pattern.finditer(text):
                if match.end() > match.start():
                    out += [(text[at : match.start()], role), (match[0], "hit")]
                    at = match.end()
            out.append((text[at:], role))
        return tuple(out)

    def _is_hit(self, printed: Printed) -> bool:
        return self.pattern is not None and self.pattern.search(printed.text) is not None

    def text(self) -> str:
        """All that is kept, as it is shown, with full times."""
        return "".join(
            f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(each.time_s))} {each.stream} {each.text}\n"
            for each in self.printed
        )

    # ---- keys

    def on_resize(self) -> None:
        if self.wraps:
            self._rebuild()
        if self.follows:
            self._to_end()

    def action_follow(self) -> None:
        self.follows = not self.follows
        if self.follows:
            self._to_end()
        self.post_message(self.Changed())

    def action_times(self) -> None:
        self.shows_times = not self.shows_times
        self._redo()

    def action_wrap(self) -> None:
        self.wraps = not self.wraps
        self.shift = 0
        self._redo()

    def action_shift(self, by: int) -> None:
        if not self.wraps:
            self.shift = max(0, self.shift + by)
            self.refresh()

    def action_search(self) -> None:
        self.post_message(self.SearchWanted())

    def action_save(self) -> None:
        self.post_message(self.SaveWanted())

    def action_hit(self, direction: int) -> None:
        """Go to the next line that fits."""
        if self.pattern is None:
            self.action_search()
            return
        top = self.scroll_offset.y
        pattern = self.pattern
        indexes = range(top + 1, len(self.lines)) if direction > 0 else range(min(top, len(self.lines)) - 1, -1, -1)
        for index in indexes:
            if pattern.search(text_of(self.lines[index])):
                self._set_follow(False)
                self.scroll_to(y=index, animate=False, immediate=True)
                return

    def _redo(self) -> None:
        self._rebuild()
        if self.follows:
            self._to_end()
        self.post_message(self.Changed())

    def _scroll_by(self, by: int) -> None:
        if by < 0:
            self._set_follow(False)
        super()._scroll_by(by)
        if by > 0 and self.is_at_end:
            self._set_follow(True)

    def _on_mouse_scroll_up(self, event: object) -> None:
        self._set_follow(False)
        super()._on_mouse_scroll_up(event)  # type: ignore[arg-type]

    def _set_follow(self, follows: bool) -> None:
        if follows != self.follows:
            self.follows = follows
            self.post_message(self.Changed())

    def _to_end(self) -> None:
        self.scroll_to(y=max(0, len(self.lines) - self.rows_visible), animate=False, immediate=True)


def _shown(part: bytes) -> str:
    """One line made harmless; what a terminal would show of overwritten lines is the last piece."""
    part = part.removesuffix(b"\r")
    if b"\r" in part:
        part = part[part.rindex(b"\r") + 1 :]
    return clean_bytes(part[:MAX_LINE])
