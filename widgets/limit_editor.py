"""The limits of one or several guests: what is set, what is used, what can be changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from widgets.glyphs import GLYPHS, bar
from widgets.line import Line, Role, Span, line
from widgets.line_view import LineView
from widgets.text import fit

METER = 14


@dataclass(frozen=True, slots=True)
class LimitRow:
    """One limit, ready to be shown."""

    name: str
    """Field of Limits."""

    title: str
    value: str
    """As it is set now: "0.5", "64 MiB", "none", or "differ" where the guests do not agree."""

    used: str = ""
    share: float | None = None
    evidence: str = ""
    """What shows that it bites."""

    why_not: str = ""
    """Why it cannot be set for this guest; empty if it can."""

    meaning: str = ""
    pending: bool = False


class LimitEditor(LineView):
    """A row a limit. Tells steps and exact values; whoever owns it applies them and shows the outcome."""

    has_cursor = True
    empty_text = "reading the limits"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("minus,f7", "step(-1)", "tighter", show=False, id="limit.down"),
        Binding("plus,f8", "step(1)", "looser", show=False, id="limit.up"),
        Binding("equals_sign,enter", "exact", "set exactly", show=False, id="limit.exact"),
        Binding("0,delete", "lift", "no limit", show=False, id="limit.lift"),
    ]

    @dataclass
    class Wanted(Message):
        """The user wants another value: a step down or up, an exact one, or none."""

        editor: LimitEditor
        name: str
        act: str
        """"down", "up", "exact", "lift"."""

        @property
        def control(self) -> LimitEditor:
            return self.editor

    @dataclass
    class Refused(Message):
        """The limit under the cursor cannot be set."""

        editor: LimitEditor
        why: str

        @property
        def control(self) -> LimitEditor:
            return self.editor

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: Sequence[LimitRow] = ()

    def show_rows(self, rows: Sequence[LimitRow]) -> None:
        """Show these limits."""
        self.rows = rows
        self.show(
            [_line(row) for row in rows],
            head=line((f"  {'LIMIT':<16} {'SET':>11}   {'USED':>11} {'':<{METER}} ", "head")),
        )

    @property
    def current(self) -> LimitRow | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    def action_step(self, direction: int) -> None:
        self._want("up" if direction > 0 else "down")

    def action_exact(self) -> None:
        self._want("exact")

    def action_lift(self) -> None:
        self._want("lift")

    def _want(self, act: str) -> None:
        row = self.current
        if row is None:
            return
        if row.why_not:
            self.post_message(self.Refused(self, f"{row.title}: {row.why_not}"))
        else:
            self.post_message(self.Wanted(self, row.name, act))


def _line(row: LimitRow) -> Line:
    if row.why_not:
        return line((f"  {fit(row.title, 16)} {fit(row.value, 11, right=True)}   {row.why_not}", "dim"))
    role: Role = "" if row.value == "none" else "strong"
    full = row.share is not None and row.share >= 0.9
    spans: list[Span] = [
        (f"  {fit(row.title, 16)} ", ""),
        (fit(row.value, 11, right=True), role),
        (f" {GLYPHS.pending} " if row.pending else "   ", "accent"),
        (fit(row.used, 11, right=True) + " ", ""),
        (bar(row.share, METER), "warn" if full else "cpu"),
    ]
    if row.evidence:
        spans.append((f" {GLYPHS.warning} {row.evidence}", "warn"))
    return line(*spans)
