"""The card of a guest."""

from __future__ import annotations

from app.core.limits import LIMIT_FIELDS
from app.tui.messages import Batch
from app.tui.pages.page import Page
from widgets.guest_card import card_lines
from widgets.guest_row import GuestRow


class OverviewPage(Page):
    """The card."""

    title = "Overview"

    def draw(self, row: GuestRow) -> None:
        devices = [
            (f"{field.title} {entry.device}", field.format(value))
            for entry in row.guest.limits.io_devices
            for field in LIMIT_FIELDS.values()
            if field.device_field and (value := getattr(entry, field.device_field)) is not None
        ]
        self.view.show(card_lines(row, devices))

    def news(self, row: GuestRow, batch: Batch) -> None:
        self.draw(row)
