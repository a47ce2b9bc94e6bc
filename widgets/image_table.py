"""All images that guests can be made from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from backends.image import Image, short_id
from widgets.line import Span
from widgets.list_table import ListColumn, ListTable
from widgets.units import UNKNOWN, duration, size


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One name of an image, ready to be shown."""

    backend: str
    image: Image
    age_s: float | None = None
    is_stale: bool = False
    """Its backend does not answer: this is what it said last."""


def _name(row: ImageRow) -> Span:
    if row.is_stale:
        return row.image.name, "dim"
    return ("<no name>", "dim") if row.image.is_dangling else (row.image.name, "strong")


def _users(row: ImageRow) -> Span:
    users = row.image.users
    if not users:
        return "nobody", "dim"
    return (users[0] if len(users) == 1 else f"{len(users)}: {', '.join(users)}"), ""


class ImageTable(ListTable[ImageRow]):
    """One row a name."""

    empty_text = "no images"
    filter_hint = "nginx  !test  used:no  backend:native"
    columns: ClassVar[tuple[ListColumn[ImageRow], ...]] = (
        ListColumn("name", "NAME", "n", 24, "its name; <no name> where none is left", _name,
                   lambda row: (row.image.is_dangling, row.image.name.casefold()), most=60, keeps_end=True),
        ListColumn("id", "ID", "i", 12, "the first digits of its id", lambda row: (short_id(row.image.id), "dim"),
                   lambda row: row.image.id, priority=4),
        ListColumn("size", "SIZE", "s", 6, "on disk, with layers that others share",
                   lambda row: (size(row.image.size_bytes), ""), lambda row: row.image.size_bytes,
                   right=True, largest_first=True),
        ListColumn("own", "OWN", "o", 6, "what removing it would free",
                   lambda row: (size(row.image.own_bytes), "accent"), lambda row: row.image.own_bytes,
                   right=True, priority=1, largest_first=True),
        ListColumn("layers", "LAYERS", "l", 6, "how many layers it has", lambda row: (str(row.image.layers), ""),
                   lambda row: row.image.layers, right=True, priority=3, largest_first=True),
        ListColumn("age", "AGE", "a", 6, "since it was made", lambda row: (duration(row.age_s), ""),
                   lambda row: row.age_s, right=True, priority=2),
        ListColumn("platform", "PLATFORM", "p", 12, "what it runs on",
                   lambda row: (row.image.platform or UNKNOWN, "dim"), lambda row: row.image.platform, priority=6),
        ListColumn("users", "USED BY", "u", 14, "the guests made from it", _users,
                   lambda row: len(row.image.users), most=60, largest_first=True),
        ListColumn("backend", "BACKEND", "b", 9, "who keeps it", lambda row: (row.backend, "dim"),
                   lambda row: row.backend, priority=5),
    )  # fmt: skip

    def key_of(self, row: ImageRow) -> Hashable:
        return row.backend, row.image.name

    def words_of(self, row: ImageRow) -> str:
        return f"{row.image.name} {short_id(row.image.id)}"

    def properties_of(self, row: ImageRow) -> Mapping[str, str]:
        used = "yes" if row.image.users else "no"
        return {"used": used, "backend": row.backend, "platform": row.image.platform}
