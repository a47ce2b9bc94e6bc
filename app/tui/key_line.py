"""The line of keys: those of the page in view, then what applies to the chosen guest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.core.commands import COMMANDS
from app.tui.asker import Answer
from app.tui.verdicts import OPENERS, verdict
from backends.model import GuestRef, GuestState
from widgets.bar import Bar
from widgets.guest_row import GuestRow
from widgets.line import Span, width_of
from widgets.line_view import LineView

if TYPE_CHECKING:
    from app.tui.screens.base import BaseScreen

Hint = tuple[str, str]
"""A key and what it does."""

COMMANDS_SHOWN = (
    "guest.start",
    "guest.stop",
    "guest.restart",
    "guest.pause",
    "guest.resume",
    "guest.kill",
    "guest.remove",
    "guest.limit",
    "snapshot.create",
)
"""In this order."""


class KeyLine:
    """What applies is asked once for each guest and state, and remembered."""

    def __init__(self, screen: BaseScreen) -> None:
        self._screen = screen
        self._applicable: dict[tuple[GuestRef, GuestState], frozenset[str]] = {}

    def show(self, bar: Bar, more: Sequence[Hint], always: Sequence[Hint]) -> None:
        """Draw it: `more` after the commands while there is room, `always` at the right."""
        rows = self._screen.chosen_rows()
        focused = self._screen.focused
        hints = list(focused.HINTS) if isinstance(focused, LineView) else []
        taken = {key for key, _ in hints}
        if rows:
            hints += [hint for hint in self._commands(rows[0]) if hint[0] not in taken]
        hints += [hint for hint in more if hint[0] not in taken]
        right = _spans(always)
        while hints and width_of(_spans(hints)) + width_of(right) >= bar.size.width:
            hints.pop()
        bar.set(_spans(hints), right)

    def _commands(self, row: GuestRow) -> list[Hint]:
        known = self._applicable.get((row.ref, row.guest.state))
        if known is None:
            self._ask(row)
            return []
        hints = [
            (_first_key(COMMANDS[name].key), COMMANDS[name].title.lower()) for name in COMMANDS_SHOWN if name in known
        ]
        return hints + [(key, title) for name, (key, title, _, _) in OPENERS.items() if name in known]

    def _ask(self, row: GuestRow) -> None:
        backend = self._screen.roster.backend(row.ref)
        if backend is None:
            return
        key = (row.ref, row.guest.state)

        def question() -> frozenset[str]:
            names = [*COMMANDS_SHOWN, *OPENERS]
            return frozenset(name for name in names if verdict(backend, [name], row).command is not None)

        def reply(answer: Answer[frozenset[str]]) -> None:
            if answer.error is None:
                if len(self._applicable) > 2000:
                    self._applicable.clear()
                self._applicable[key] = answer.value
                self._screen.show_keys()

        self._screen.innkeeper.asker.ask(f"why {backend.name}", "keys", question, reply)


def _first_key(keys: str) -> str:
    key = keys.partition(",")[0]
    return f"^{key[5:].upper()}" if key.startswith("ctrl+") else key


def _spans(hints: Sequence[Hint]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for key, title in hints:
        spans += [(f" {key}", "head"), (f" {title} ", "")]
    return tuple(spans)
