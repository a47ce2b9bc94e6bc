"""All templates that guests can be made from, and what is known of one."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from backends.image import Template
from widgets.line import EMPTY, Line, Span, line, wrap
from widgets.list_table import ListColumn, ListTable
from widgets.text import fit
from widgets.units import UNKNOWN, size

LABEL = 14


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """One template, ready to be shown."""

    backend: str
    template: Template
    is_stale: bool = False
    """Its backend does not answer: this is what it said last."""


def _made(template: Template) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(template.created_s))


def _guests(row: TemplateRow) -> Span:
    guests = row.template.guests
    if not guests:
        return "none", "dim"
    return (guests[0] if len(guests) == 1 else f"{len(guests)}: {', '.join(guests)}"), ""


class TemplateTable(ListTable[TemplateRow]):
    """One row a template."""

    empty_text = "no templates"
    filter_hint = "web  !test  backend:native"
    columns: ClassVar[tuple[ListColumn[TemplateRow], ...]] = (
        ListColumn("name", "NAME", "n", 16, "its name",
                   lambda row: (row.template.name, "dim" if row.is_stale else "strong"),
                   lambda row: row.template.name.casefold(), most=40),
        ListColumn("image", "IMAGE", "i", 16, "what it was made from", lambda row: (row.template.image or UNKNOWN, ""),
                   lambda row: row.template.image.casefold(), priority=1, most=40),
        ListColumn("size", "SIZE", "s", 6, "its own files, without the image's",
                   lambda row: (size(row.template.size_bytes), ""), lambda row: row.template.size_bytes,
                   right=True, largest_first=True),
        ListColumn("made", "MADE", "m", 16, "when it was made", lambda row: (_made(row.template), "dim"),
                   lambda row: row.template.created_s, priority=2, largest_first=True),
        ListColumn("guests", "GUESTS MADE FROM IT", "g", 20, "the guests that still need it", _guests,
                   lambda row: len(row.template.guests), largest_first=True, most=60),
        ListColumn("backend", "BACKEND", "b", 9, "who keeps it", lambda row: (row.backend, "dim"),
                   lambda row: row.backend, priority=4),
    )  # fmt: skip

    def key_of(self, row: TemplateRow) -> Hashable:
        return row.backend, row.template.name

    def words_of(self, row: TemplateRow) -> str:
        return " ".join((row.template.name, row.template.image, *row.template.guests))

    def properties_of(self, row: TemplateRow) -> Mapping[str, str]:
        return {"backend": row.backend}


def template_lines(template: Template, width: int) -> list[Line]:
    """Return all that is known of it, a line each."""
    guests = ", ".join(template.guests) or "none"
    return [
        line((template.name, "title"), ("  a template", "dim")),
        line((fit("Image", LABEL), "dim"), template.image or UNKNOWN),
        line((fit("Own files", LABEL), "dim"), size(template.size_bytes)),
        line((fit("Made", LABEL), "dim"), _made(template)),
        EMPTY,
        *wrap(line((fit("Guests", LABEL), "dim"), guests), width, LABEL),
    ]
