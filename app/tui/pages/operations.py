"""What was asked for in this session, on all guests."""

from __future__ import annotations

from app.tui.messages import Batch
from app.tui.pages.page import Page
from widgets.guest_row import GuestRow
from widgets.line import Line
from widgets.step_list import operation_line


class OperationsPage(Page):
    """What was asked for in this session, on all guests."""

    title = "Operations"

    def draw(self, row: GuestRow) -> None:
        self.view.empty_text = "nothing was asked for yet"
        lines: list[Line] = []
        for operation in reversed(self.details.roster.station.operations()):
            ended = operation.ended_s
            failed = operation.error is not None
            state = "running" if not operation.is_done else "failed" if failed else "done"
            detail = operation.error.message if operation.error is not None else f"{len(operation.records)} steps"
            lines.append(
                operation_line(
                    operation.started_s,
                    operation.title,
                    state,
                    None if ended is None else ended - operation.started_s,
                    detail,
                    failed=failed,
                )
            )
        self.view.show(lines)

    def news(self, row: GuestRow, batch: Batch) -> None:
        self.draw(row)
