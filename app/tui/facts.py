"""What is known of the row under the cursor beyond its row, asked for off the event loop when the cursor rests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.tui.asker import Answer
from backends.base import Backend
from backends.errors import InnkeeperError

if TYPE_CHECKING:
    from app.tui.screens.base import BaseScreen

SETTLE_S = 0.15
"""A cursor that runs over many rows asks for none of them."""

MOST = 500
"""Answers that are kept."""

Question = tuple[object, Callable[[Backend], object]]
"""A key that the answer is kept by, and what to ask the row's backend."""


class FactBook:
    """Answers by key; one question at a time, that of the row under the cursor."""

    def __init__(self, screen: BaseScreen, what: str, changed: Callable[[], object]) -> None:
        """`changed` is called on the event loop when an answer came."""
        self._screen, self._what, self._changed = screen, what, changed
        self._facts: dict[object, Any] = {}
        self._asked: object = None

    def known(self, question: Question | None) -> Any:
        """Return the last answer, or None."""
        return self._facts.get(question[0]) if question is not None else None

    def forget_asked(self) -> None:
        """Ask again although the cursor has not moved: what is known may be old."""
        self._asked = None

    def want(self, question: Question | None, backend: str) -> None:
        """Ask, if that was not the last question."""
        if question is not None and question[0] != self._asked:
            self._asked = question[0]
            self._screen.set_timer(SETTLE_S, lambda: self._ask(question, backend))

    def _ask(self, question: Question, name: str) -> None:
        screen, (key, ask) = self._screen, question
        if key != self._asked or not screen.is_up:
            return  # the cursor went on
        try:
            backend = screen.station.backend(name)
        except InnkeeperError:
            return

        def reply(answer: Answer[object]) -> None:
            if not screen.is_up:
                return
            if answer.error is not None:
                screen.say(answer.error.message, "warn")
                return
            if len(self._facts) > MOST:
                self._facts.clear()
            self._facts[key] = answer.value
            self._changed()

        screen.innkeeper.asker.ask(f"facts {name}", f"facts {self._what}", lambda: ask(backend), reply)
