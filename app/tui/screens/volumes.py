"""The named volumes: who has them, and how large they are once somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.binding import BindingType

from app.core.commands import COMMANDS
from app.core.operations import Operation
from app.tui.questions import ask_text, confirm
from app.tui.roster import Roster
from app.tui.screens.asset import AssetScreen
from app.tui.shelf import Shelf
from app.tui.views import command_bindings, command_hints
from backends.assets import Volumes
from backends.volume import Volume, VolumeSpec
from widgets.glyphs import GLYPHS
from widgets.line import Line, Span, line
from widgets.text import clean, counted
from widgets.volume_table import VolumeRow, VolumeTable, volume_lines

_FEW = 8


class VolumeScreen(AssetScreen[VolumeRow]):
    """All named volumes of all backends that keep some."""

    view_name = "volumes"
    every_s = 5.0
    MORE_HINTS = (*command_hints("volume", "size"), ("Enter", "details"), ("/", "filter"), ("o", "sort"))
    BINDINGS: ClassVar[list[BindingType]] = [*command_bindings("volume")]

    def __init__(self, roster: Roster) -> None:
        super().__init__(roster)
        self._counting: dict[tuple[str, str], Operation] = {}
        """The last time that somebody asked for a volume's size, by backend and name."""

    def make_table(self) -> VolumeTable:
        return VolumeTable(id="list")

    def make_shelf(self) -> Shelf[Volume]:
        return Shelf(self.innkeeper, self.roster, "volumes", Volumes, _read, self.show_list)

    def rows(self) -> list[VolumeRow]:
        assert self.shelf is not None
        return [
            VolumeRow(name, volume, self._counted(name, volume), self.shelf.is_stale(name))
            for name, volumes in self.shelf.items.items()
            for volume in volumes
        ]

    def _counted(self, backend: str, volume: Volume) -> int | None:
        """Return what was counted last; of one that had the name before, nothing."""
        operation = self._counting.get((backend, volume.name))
        if operation is None or operation.started_s < (volume.created_s or 0.0):
            return None
        return operation.result if isinstance(operation.result, int) else None

    def backend_of(self, row: VolumeRow) -> str:
        return row.backend

    def name_of(self, row: VolumeRow) -> str:
        return row.volume.name

    def detail_lines(self, row: VolumeRow, facts: Any, width: int) -> list[Line]:
        return volume_lines(row, width)

    def summary(self) -> list[Span]:
        unused = sum(not row.volume.users for row in self.table.rows)
        text = f" {counted(len(self.table.rows), 'volume')}" + (f", {unused} without guests " if unused else " ")
        return [(text, "dim")]

    # ---- verbs

    def do_volume_create(self) -> None:
        backend = self.home("volume.create")
        if backend is None:
            return
        home = backend.name
        ask_text(
            self.app,
            "Name of the new volume:",
            lambda name: self.submit("volume.create", home, spec=VolumeSpec(name)),
            hint="empty: one is made up",
            check=lambda text: "",
        )

    def do_volume_size(self) -> None:
        rows = self.table.chosen
        if not self.can("volume.size", rows):
            return
        for row in rows:
            begun = self.actions.submit("volume.size", None, backend=row.backend, name=row.volume.name)
            if begun is not None:
                self._counting[row.backend, row.volume.name] = begun

    def do_volume_remove(self) -> None:
        rows = self.table.chosen
        if not self.can("volume.remove", rows):
            return
        details = _names(rows) if len(rows) > 1 else []
        details.append(line((COMMANDS["volume.remove"].help, "dim")))
        guests = sorted({user.guest for row in rows for user in row.volume.users})
        if guests:
            verb = "has" if len(guests) == 1 else "have"
            few = ", ".join(guests[:5]) + (" …" if len(guests) > 5 else "")
            details.append(line((f"{GLYPHS.warning} {few} {verb} it: that will be refused", "warn")))
        what = clean(rows[0].volume.name) if len(rows) == 1 else f"{len(rows)} volumes"

        def remove() -> None:
            for row in rows:
                self.submit("volume.remove", row.backend, name=row.volume.name)

        confirm(self.app, f"Remove {what}?", details, "remove", remove)

    def do_volume_prune(self) -> None:
        backend = self.home("volume.prune")
        if backend is None:
            return
        home = backend.name
        unused = [row for row in self.table.rows if row.backend == home and not row.volume.users]
        if not unused:
            self.say("no volume is without guests")
            return
        details = [*_names(unused), line((COMMANDS["volume.prune"].help, "dim"))]
        question = f"Remove {counted(len(unused), 'volume')} that no guest has?"
        confirm(self.app, question, details, "prune", lambda: self.submit("volume.prune", home))


def _names(rows: Sequence[VolumeRow]) -> list[Line]:
    """Return the names of some, and how many more there are."""
    found = [line(f"  {row.volume.name}") for row in rows[:_FEW]]
    return [*found, line((f"  and {len(rows) - _FEW} more", "dim"))] if len(rows) > _FEW else found


def _read(backend: Volumes) -> Sequence[Volume]:
    return backend.volumes()
