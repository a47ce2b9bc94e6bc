"""What was asked for in this session, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from widgets.glyphs import bar
from widgets.line import Role, Span
from widgets.list_table import ListColumn, ListTable
from widgets.units import UNKNOWN, duration, rate

METER = 14

_ROLES: dict[str, Role] = {"failed": "bad", "done": "good", "running": "accent", "cancelled": "warn"}


@dataclass(frozen=True, slots=True)
class OperationRow:
    """One operation, ready to be shown."""

    id: int
    title: str
    """Holds names, which are other people's text."""

    state: str
    """"running", "cancelling", "done", "failed", "cancelled"."""

    started_s: float
    took_s: float
    share: float | None = None
    """How much is done, 0 to 1; None where nobody knows."""

    bytes_per_s: float | None = None
    left_s: float | None = None
    detail: str = ""
    """What it does now, or why it failed."""


def _done(row: OperationRow) -> Span:
    if row.share is None:
        return "", ""
    return f"{bar(row.share, METER)} {row.share * 100:3.0f}%", "cpu"


class OperationTable(ListTable[OperationRow]):
    """One row an operation, the newest first."""

    empty_text = "nothing was asked for yet"
    first_sort = "started"
    filter_hint = "pull  state:failed"
    columns: ClassVar[tuple[ListColumn[OperationRow], ...]] = (
        ListColumn("started", "BEGAN", "b", 8, "when it was asked for",
                   lambda row: (time.strftime("%H:%M:%S", time.localtime(row.started_s)), "dim"),
                   lambda row: row.id, priority=2, largest_first=True),
        ListColumn("title", "OPERATION", "o", 22, "what is done to what", lambda row: (row.title, "strong"),
                   lambda row: row.title.casefold(), most=50, keeps_end=True),
        ListColumn("state", "STATE", "s", 10, "whether it runs, and how it ended",
                   lambda row: (row.state, _ROLES.get(row.state, "")), lambda row: row.state),
        ListColumn("done", "DONE", "d", METER + 5, "how far it is", _done, lambda row: row.share, priority=1,
                   largest_first=True),
        ListColumn("rate", "RATE/s", "r", 7, "what it moves a second",
                   lambda row: (rate(row.bytes_per_s) if row.bytes_per_s is not None else "", "net"),
                   lambda row: row.bytes_per_s, right=True, priority=3, largest_first=True),
        ListColumn("left", "LEFT", "l", 6, "how long it will probably take",
                   lambda row: (duration(row.left_s) if row.left_s is not None else "", ""),
                   lambda row: row.left_s, right=True, priority=3),
        ListColumn("took", "TOOK", "t", 6, "how long it took, or has taken so far",
                   lambda row: (duration(row.took_s) if row.took_s >= 1 else f"{row.took_s * 1000:.0f}ms", ""),
                   lambda row: row.took_s, right=True, priority=4, largest_first=True),
        ListColumn("detail", "WHAT", "w", 12, "what it does now, or why it failed",
                   lambda row: (row.detail or UNKNOWN, "bad" if row.state == "failed" else "dim"),
                   lambda row: row.detail, most=160),
    )  # fmt: skip

    def key_of(self, row: OperationRow) -> Hashable:
        return row.id

    def words_of(self, row: OperationRow) -> str:
        return f"{row.title} {row.detail}"

    def properties_of(self, row: OperationRow) -> Mapping[str, str]:
        return {"state": row.state}
