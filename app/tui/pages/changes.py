"""What a guest changed of the image it was made from."""

from __future__ import annotations

from collections.abc import Sequence

from app.tui.messages import Batch
from app.tui.pages.page import Page, ended_for
from backends.assets import Committing
from backends.image import FileChange
from widgets.change_lines import change_lines
from widgets.guest_row import GuestRow


class ChangesPage(Page):
    """The paths that differ from its image; I makes an image of them."""

    title = "Changes"
    asks = True

    def show(self, row: GuestRow) -> None:
        backend = self.details.roster.backend(row.ref)
        if backend is None:
            return
        if not isinstance(backend, Committing):
            self.lacks(backend, "images that one could compare with")
            return
        changes = backend.changes

        def reply(found: Sequence[FileChange]) -> None:
            self.view.show(change_lines(found))

        self.details.ask("changes", lambda _: changes(row.ref), reply, self.fail)

    def news(self, row: GuestRow, batch: Batch) -> None:
        if ended_for(row, batch.ended):
            self.show(row)

    def forget(self) -> None:
        self.view.show([])
