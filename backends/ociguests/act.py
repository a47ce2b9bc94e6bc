"""The one kind of step of this backend: something done through the runtime's own functions, told as its command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Act:
    """One call of the runtime."""

    kind: str
    text: str
    command: str
    do: Callable[[], object]

    def describe(self) -> str:
        """Return the line for people."""
        return self.text

    def by_hand(self) -> str:
        """Return the command that would do the same."""
        return self.command

    def run(self) -> object:
        """Do it."""
        return self.do()

    def undo(self) -> None:
        """Nothing is left behind."""
