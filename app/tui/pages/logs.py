"""What a guest printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.tui.log_follower import LogFollower
from app.tui.messages import Batch
from app.tui.pages.page import Page
from backends.capabilities import Logging
from backends.errors import InnkeeperError
from backends.model import GuestRef
from widgets.guest_row import GuestRow
from widgets.line import Span
from widgets.line_view import LineView
from widgets.log_view import LogView

if TYPE_CHECKING:
    from app.tui.details import Details


class LogsPage(Page):
    """What it printed, followed."""

    title = "Logs"
    asks = True

    def __init__(self, details: Details) -> None:
        super().__init__(details)
        self._follower: LogFollower | None = None
        self._ref: GuestRef | None = None
        self._was_live = False
        self._state = ""

    def make(self) -> LineView:
        self.log = LogView()
        self.view = self.log
        return self.log

    def show(self, row: GuestRow) -> None:
        self._was_live = row.guest.state.is_live
        if self._ref == row.ref and self._follower is not None:
            return
        backend = self.details.roster.backend(row.ref)
        if backend is None:
            self._say(f"{row.ref.backend} does not answer")
        elif not isinstance(backend, Logging):
            self._say(f"{backend.title} keeps no logs")
        else:
            self._begin(backend, row.ref)

    def _begin(self, backend: Logging, ref: GuestRef) -> None:
        self.hide()
        self.log.clear()
        self.log.empty_text = "nothing printed yet"
        self._ref, self._state = ref, "following"
        app = self.details.owner.innkeeper
        self._follower = LogFollower(backend, ref, app.loop, app.context, self.log.add, self._ended)

    def news(self, row: GuestRow, batch: Batch) -> None:
        live = row.guest.state.is_live
        if self._follower is None and live and not self._was_live and row.ref == self._ref:
            self.show(row)  # it was started again
        self._was_live = live

    def _ended(self, error: InnkeeperError | None) -> None:
        self._follower, self._state = None, "ended"
        self.log.finish()
        if error is not None:
            self._say(error.message)
        self.details.owner.show_message()

    def hide(self) -> None:
        if self._follower is not None:
            self._follower.stop()
            self._follower = None

    def forget(self) -> None:
        self.hide()
        self._ref = None
        self.log.clear()

    def right(self) -> list[Span]:
        log = self.log
        flags = [name for name, on in (("follow", log.follows), ("times", log.shows_times), ("wrap", log.wraps)) if on]
        spans: list[Span] = [(f" {' '.join(flags)} ", "accent")] if flags else []
        if log.pattern is not None:
            spans.append((f" /{log.pattern.pattern} {log.hits} hits ", "strong"))
        spans.append((f" {len(log.printed)} lines, {self._state or 'not read'} ", "dim"))
        return spans

    def _say(self, text: str) -> None:
        self.log.empty_text = text
        if not self.log.lines:
            self.log.refresh()
