"""The order of the guest table, kept quiet: rows sorted by moving figures do not dance."""

from __future__ import annotations

from collections.abc import Sequence

from backends.model import GuestRef
from widgets.guest_column import BY_NAME, MOVING, Column
from widgets.guest_row import GuestRow

WEIGHT = 0.3
"""Of the newest value in the moving average by which the table sorts."""

HOLD_S = 3.0
"""An order by a moving figure stands at least this long."""


class Smoother:
    """Keeps moving averages of the figures of each guest."""

    def __init__(self) -> None:
        self._averages: dict[GuestRef, dict[str, float]] = {}

    def add(self, rows: Sequence[GuestRow]) -> None:
        """Take in one pass of figures; guests that are gone are forgotten."""
        averages: dict[GuestRef, dict[str, float]] = {}
        for row in rows:
            old = self._averages.get(row.ref, {})
            new = averages[row.ref] = {}
            for column in MOVING:
                value = column.sort(row)
                if isinstance(value, (int, float)):
                    before = old.get(column.name)
                    new[column.name] = value if before is None else before + WEIGHT * (value - before)
        self._averages = averages

    def value(self, column: Column, row: GuestRow) -> float | str | None:
        """The figure to sort by."""
        if not column.moving:
            return column.sort(row)
        return self._averages.get(row.ref, {}).get(column.name)


class Order:
    """Decides the order of rows, and when it may change."""

    def __init__(self) -> None:
        self.sort = "name"
        self.reverse = False
        self.grouped = True
        self.smoother = Smoother()
        self._rank: dict[GuestRef, int] = {}
        self._sorted_at_s = float("-inf")
        self._dirty = True

    def change(self, *, sort: str | None = None, reverse: bool | None = None, grouped: bool | None = None) -> None:
        """Set what to sort by; takes effect with the next `arrange`."""
        self.sort = self.sort if sort is None else sort
        self.reverse = self.reverse if reverse is None else reverse
        self.grouped = self.grouped if grouped is None else grouped
        self._dirty = True

    def arrange(self, rows: Sequence[GuestRow], now_s: float) -> list[GuestRow]:
        """Return the rows in order, grouped if wanted. Guests that are new are sorted in at once."""
        column = BY_NAME[self.sort]
        if (
            self._dirty
            or not column.moving
            or now_s - self._sorted_at_s >= HOLD_S
            or any(row.ref not in self._rank for row in rows)
        ):
            ordered = self._sorted(rows, column)
            self._rank = {row.ref: index for index, row in enumerate(ordered)}
            self._sorted_at_s, self._dirty = now_s, False
        else:
            ordered = sorted(rows, key=lambda row: self._rank[row.ref])
        if self.grouped:
            ordered.sort(key=lambda row: row.group)
        return ordered

    def _sorted(self, rows: Sequence[GuestRow], column: Column) -> list[GuestRow]:
        named = sorted(rows, key=lambda row: row.name.casefold())
        value = self.smoother.value
        known = [row for row in named if value(column, row) is not None]
        unknown = [row for row in named if value(column, row) is None]
        known.sort(
            key=lambda row: value(column, row) or 0 if column.moving else value(column, row),  # type: ignore[arg-type,return-value]
            reverse=column.largest_first != self.reverse,
        )
        return known + unknown
