"""All that is known of a guest."""

from __future__ import annotations

import json

from app.tui.messages import Batch
from app.tui.pages.page import Page, ended_for
from widgets.guest_row import GuestRow
from widgets.line import Line, line


class InspectPage(Page):
    """All that is known of it, as it is."""

    title = "Inspect"
    asks = True

    def show(self, row: GuestRow) -> None:
        self.details.ask("inspect", lambda backend: _json_lines(backend.inspect(row.ref)), self.view.show, self.fail)

    def news(self, row: GuestRow, batch: Batch) -> None:
        if batch.fleet or ended_for(row, batch.ended):
            self.show(row)

    def forget(self) -> None:
        self.view.show([])


def _json_lines(value: object) -> list[Line]:
    lines: list[Line] = []
    for text in json.dumps(value, indent=2, default=str, ensure_ascii=False).splitlines():
        key, colon, rest = text.partition('": ')
        lines.append(line(" ", (key + colon, "accent"), rest) if colon else line(" " + text))
    return lines
