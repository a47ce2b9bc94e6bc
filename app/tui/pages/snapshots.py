"""The snapshots of a guest."""

from __future__ import annotations

from collections.abc import Sequence

from app.tui.messages import Batch
from app.tui.pages.page import Page, ended_for
from backends.capabilities import Snapshotting
from backends.model import Snapshot
from widgets.guest_row import GuestRow
from widgets.line_view import LineView
from widgets.snapshot_tree import SnapshotTree


class SnapshotsPage(Page):
    """Its snapshots."""

    title = "Snapshots"
    asks = True

    def make(self) -> LineView:
        self.tree = SnapshotTree()
        self.view = self.tree
        return self.tree

    def show(self, row: GuestRow) -> None:
        backend = self.details.roster.backend(row.ref)
        if backend is None:
            return
        if not isinstance(backend, Snapshotting):
            self.lacks(backend, "snapshots")
            return
        snapshots = backend.snapshots

        def reply(found: Sequence[Snapshot]) -> None:
            self.tree.show_snapshots(found)

        self.details.ask("snapshots", lambda _: snapshots(row.ref), reply, self.fail)

    def news(self, row: GuestRow, batch: Batch) -> None:
        if ended_for(row, batch.ended):
            self.show(row)

    def forget(self) -> None:
        self.tree.show_snapshots([])
