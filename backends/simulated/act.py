"""The one kind of step there is in a simulated world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Act:
    """A step that changes the simulated world only."""

    kind: str
    text: str
    do: Callable[[], object]

    def describe(self) -> str:
        """Return the line for people."""
        return f"{self.text} (simulated)"

    def by_hand(self) -> str:
        """Nothing on this host would do it."""
        return ""

    def run(self) -> object:
        """Do it."""
        return self.do()

    def undo(self) -> None:
        """Nothing is left behind."""
