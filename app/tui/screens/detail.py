"""One guest, over the whole screen."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from app.tui.actions import COMMAND_BINDINGS
from app.tui.details import Details
from app.tui.messages import Batch
from app.tui.roster import Roster
from app.tui.screens.base import PAGE_BINDINGS, TAB_BINDINGS, BaseScreen
from backends.model import GuestRef
from widgets.bar import Bar
from widgets.guest_row import GuestRow
from widgets.line import Span
from widgets.news_bar import NewsBar


class DetailScreen(BaseScreen):
    """Status, tabs, the page in view, news, keys."""

    MORE_HINTS = (("[ ]", "pages"),)
    ALWAYS_HINTS = (("Esc", "back"), ("?", "help"), ("q", "quit"))
    BINDINGS: ClassVar[list[BindingType]] = [
        *COMMAND_BINDINGS,
        *TAB_BINDINGS,
        *PAGE_BINDINGS,
        Binding("escape", "back", "back to the table", show=False, id="view.back"),
    ]

    def __init__(self, roster: Roster, ref: GuestRef, tab: str) -> None:
        super().__init__(roster)
        self.shown = self.details = Details(roster, tab, id="details")
        self.shown.ref = ref

    def compose(self) -> ComposeResult:
        yield Bar(id="status")
        yield self.shown
        yield NewsBar(id="message")
        yield Bar(id="keys")

    def on_mount(self) -> None:
        super().on_mount()
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        if self.shown.view.focusable:
            self.shown.view.focus()
        self.core_changed(Batch(fleet=True))

    def chosen_rows(self) -> list[GuestRow]:
        row = self.shown.row
        return [row] if row is not None else []

    def core_changed(self, batch: Batch) -> None:
        if not self.is_up:
            return
        self.show_status()
        if self.shown.row is None:
            self.say("this guest no longer exists; Esc goes back", "warn")
        self.shown.core_changed(batch)
        super().core_changed(batch)

    def message_right(self) -> list[Span]:
        return self.shown.page.right() if self.shown.tab else []

    def action_back(self) -> None:
        self.dismiss(None)
