"""What all screens of guests share: the core's news, one line of words, one of keys."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from textual.screen import Screen

from app.tui.actions import Actions
from app.tui.messages import Batch, CoreChanged
from app.tui.roster import Roster
from widgets.bar import Bar
from widgets.guest_row import GuestRow
from widgets.line import Line, Role, Span, line

if TYPE_CHECKING:
    from app.core.workstation import Workstation
    from app.tui.application import InnkeeperApp

MESSAGE_S = 12.0
"""How long a line of news stands."""


class BaseScreen(Screen[None]):
    """A screen that shows guests and can act on them."""

    def __init__(self, roster: Roster) -> None:
        super().__init__()
        self.roster = roster
        self.actions = Actions(self)
        self._said: Line = ()
        self._said_at_s = 0.0

    @property
    def innkeeper(self) -> InnkeeperApp:
        """The app, as what it is."""
        return cast("InnkeeperApp", self.app)

    @property
    def station(self) -> Workstation:
        """The core."""
        return self.roster.station

    # ---- what a screen of its own adds

    def core_changed(self, batch: Batch) -> None:
        """The core has news; the roster is up to date."""

    def chosen_rows(self) -> list[GuestRow]:
        """The guests that a command is for."""
        return []

    def message_right(self) -> list[Span]:
        """What stands at the right of the line of news."""
        return []

    # ---- lines at the bottom

    def on_core_changed(self, message: CoreChanged) -> None:
        self.core_changed(message.batch)

    def say(self, text: str, role: Role = "") -> None:
        """Tell the user something in one line."""
        self._said, self._said_at_s = line((f" {text}", role)), time.monotonic()
        self.show_message()

    def show_message(self) -> None:
        """Draw the line of news; old news goes."""
        if not self.is_mounted:
            return
        if self._said and time.monotonic() - self._said_at_s > MESSAGE_S:
            self._said = ()
        self.query_one("#message", Bar).set(self._said, tuple(self.message_right()))

    def show_keys(self) -> None:
        """Draw the line of keys that apply now."""
        if self.is_mounted:
            self.actions.show_keys(self.query_one("#keys", Bar))

    async def action_act(self, names: str) -> None:
        """Do the first of these commands that applies to what is chosen."""
        self.actions.act(names.split())
