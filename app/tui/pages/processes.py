"""The processes of a guest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.tui.messages import Batch
from app.tui.pages.page import Page
from backends.capabilities import Processes
from backends.model import GuestProcess
from widgets.guest_row import GuestRow
from widgets.process_list import process_head, process_lines

if TYPE_CHECKING:
    from app.tui.details import Details

PROCESSES_EVERY_S = 2.0


class ProcessesPage(Page):
    """Its processes."""

    title = "Processes"
    asks = True

    def __init__(self, details: Details) -> None:
        super().__init__(details)
        self._asked_s = 0.0

    def draw(self, row: GuestRow) -> None:
        self.view.empty_text = "it does not run" if not row.guest.state.is_live else "reading the processes"
        if not row.guest.state.is_live:
            self.view.show([])

    def show(self, row: GuestRow) -> None:
        self._asked_s = time.monotonic()
        backend = self.details.roster.backend(row.ref)
        if not row.guest.state.is_live or backend is None:
            return
        if not isinstance(backend, Processes):
            self.lacks(backend, "list of processes")
            return
        processes = backend.processes

        def reply(found: Sequence[GuestProcess]) -> None:
            self.view.show(process_lines(found), head=process_head())

        self.details.ask("processes", lambda _: processes(row.ref), reply, self.fail)

    def news(self, row: GuestRow, batch: Batch) -> None:
        self.draw(row)
        if time.monotonic() - self._asked_s >= PROCESSES_EVERY_S - 0.2:
            self.show(row)

    def forget(self) -> None:
        self.view.show([])
