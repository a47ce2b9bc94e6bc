"""One tab of the details: it knows its widget, what to ask, and when to ask again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from app.tui.messages import Batch
from backends.base import Backend
from backends.errors import InnkeeperError
from backends.events import OperationEnded
from widgets.guest_row import GuestRow
from widgets.line import Span, line
from widgets.line_view import LineView

if TYPE_CHECKING:
    from app.tui.details import Details


class Page:
    """One tab. `draw` shows what is known at once; `show` may ask; `news` comes with every pass."""

    title: ClassVar[str] = ""
    asks: ClassVar[bool] = False

    def __init__(self, details: Details) -> None:
        self.details = details

    def make(self) -> LineView:
        """Its widget."""
        self.view = LineView()
        return self.view

    def draw(self, row: GuestRow) -> None:
        """Show what is known without asking."""

    def show(self, row: GuestRow) -> None:
        """Ask for what is not known: the user looks at it."""

    def news(self, row: GuestRow, batch: Batch) -> None:
        """The core has news while the page is in view."""

    def hide(self) -> None:
        """Out of view."""

    def forget(self) -> None:
        """Another guest."""

    def right(self) -> list[Span]:
        """What it adds to the line of news."""
        return []

    def fail(self, error: InnkeeperError) -> None:
        """Tell why there is nothing to see."""
        self.view.show([line((f" {error.message}", "warn")), line((f" {error.hint}", "dim"))])

    def lacks(self, backend: Backend, what: str) -> None:
        """Tell that the backend has no such thing."""
        self.view.show([line((f" {backend.title} has no {what}", "dim"))])


def ended_for(row: GuestRow, ended: Sequence[OperationEnded]) -> bool:
    """True if one of the operations was on this guest."""
    return any(event.ref == row.ref for event in ended)
