"""All named volumes, and what is known of one."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from backends.volume import Volume, VolumeUser
from widgets.line import EMPTY, Line, Span, line, wrap
from widgets.list_table import ListColumn, ListTable
from widgets.text import fit
from widgets.units import UNKNOWN, size

LABEL = 14


@dataclass(frozen=True, slots=True)
class VolumeRow:
    """One volume, ready to be shown."""

    backend: str
    volume: Volume
    size_bytes: int | None = None
    """None until somebody asked for it."""

    is_stale: bool = False
    """Its backend does not answer: this is what it said last."""


def _made(volume: Volume) -> str:
    if volume.created_s is None:
        return UNKNOWN
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(volume.created_s))


def _guests(row: VolumeRow) -> Span:
    guests = [user.guest for user in row.volume.users]
    if not guests:
        return "none", "dim"
    return (guests[0] if len(guests) == 1 else f"{len(guests)}: {', '.join(guests)}"), ""


class VolumeTable(ListTable[VolumeRow]):
    """One row a volume."""

    empty_text = "no volumes"
    filter_hint = "data  !cache  used:no  backend:native"
    columns: ClassVar[tuple[ListColumn[VolumeRow], ...]] = (
        ListColumn("name", "NAME", "n", 16, "its name",
                   lambda row: (row.volume.name, "dim" if row.is_stale else "strong"),
                   lambda row: row.volume.name.casefold(), most=40),
        ListColumn("guests", "GUESTS THAT HAVE IT", "g", 20, "the guests that have it, live or not", _guests,
                   lambda row: len(row.volume.users), largest_first=True, most=60),
        ListColumn("size", "SIZE", "s", 6, "what its files take on the disk, once asked for",
                   lambda row: (size(row.size_bytes), ""), lambda row: row.size_bytes, right=True, largest_first=True),
        ListColumn("made", "MADE", "m", 16, "when it was made", lambda row: (_made(row.volume), "dim"),
                   lambda row: row.volume.created_s, priority=2, largest_first=True),
        ListColumn("backend", "BACKEND", "b", 9, "who keeps it", lambda row: (row.backend, "dim"),
                   lambda row: row.backend, priority=4),
    )  # fmt: skip

    def key_of(self, row: VolumeRow) -> Hashable:
        return row.backend, row.volume.name

    def words_of(self, row: VolumeRow) -> str:
        return " ".join((row.volume.name, *(user.guest for user in row.volume.users)))

    def properties_of(self, row: VolumeRow) -> Mapping[str, str]:
        return {"backend": row.backend, "used": "yes" if row.volume.users else "no"}


def volume_lines(row: VolumeRow, width: int) -> list[Line]:
    """Return all that is known of it, a line each."""
    volume = row.volume
    labels = ", ".join(f"{key}={value}" for key, value in volume.labels.items()) or "none"
    shown = size(row.size_bytes) if row.size_bytes is not None else "not asked for"
    return [
        line((volume.name, "title"), ("  a volume", "dim")),
        *(wrap(line((volume.note, "warn")), width) if volume.note else ()),
        line((fit("Size", LABEL), "dim"), shown),
        line((fit("Made", LABEL), "dim"), _made(volume)),
        *wrap(line((fit("Files", LABEL), "dim"), volume.folder or UNKNOWN), width, LABEL),
        *wrap(line((fit("Labels", LABEL), "dim"), labels), width, LABEL),
        EMPTY,
        line((fit("Guests", LABEL), "dim"), "" if volume.users else "none"),
        *(_user_line(user) for user in volume.users),
    ]


def _user_line(user: VolumeUser) -> Line:
    return line(
        f"  {user.guest}", (f"  at {', '.join(user.places)}", "dim"), ("" if user.is_live else "  not live", "dim")
    )
