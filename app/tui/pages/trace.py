"""The steps that were done to a guest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.tui.messages import Batch
from app.tui.pages.page import Page, ended_for
from backends.trace import StepRecord
from widgets.guest_row import GuestRow
from widgets.line_view import LineView
from widgets.step_list import step_lines

if TYPE_CHECKING:
    from app.tui.details import Details


class TracePage(Page):
    """The steps that were done to it."""

    title = "Trace"
    asks = True

    def __init__(self, details: Details) -> None:
        super().__init__(details)
        self._count = -1

    def make(self) -> LineView:
        super().make()
        self.view.empty_text = "no steps recorded"
        return self.view

    def show(self, row: GuestRow) -> None:
        def reply(records: Sequence[StepRecord]) -> None:
            at_end = self.view.is_at_end or self._count < 0
            self.view.show(step_lines(records, max(40, self.view.size.width - 1)))
            if at_end and len(records) != self._count:
                self.view.action_edge(1)
            self._count = len(records)

        self.details.ask("trace", lambda backend: backend.trace(row.ref), reply, self.fail)

    def news(self, row: GuestRow, batch: Batch) -> None:
        if batch.steps or ended_for(row, batch.ended):
            self.show(row)

    def forget(self) -> None:
        self._count = -1
        self.view.show([])
