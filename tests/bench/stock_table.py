"""`stock_table.py [ROWS]`: the same list with Textual's stock DataTable, as a peer to compare with.

Every row's figures change each second, as those of busy guests do. `q` quits.
"""

from __future__ import annotations

import random
import sys
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable

TITLES = ("NAME", "KIND", "STATE", "CPU%", "MEM", "MEM%", "READ/s", "WRITE/s", "RX/s", "TX/s")


class StockTable(App[None]):
    """Guests in a DataTable, updated at 1 Hz."""

    BINDINGS: ClassVar[list[BindingType]] = [("q", "quit", "Quit")]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = rows
        self._random = random.Random(1)

    def compose(self) -> ComposeResult:
        """The table alone: it is what is measured."""
        yield DataTable[str](cursor_type="row")

    def on_mount(self) -> None:
        """Fill it, then change it each second."""
        table = self._table()
        for title in TITLES:
            table.add_column(title, key=title)
        for number in range(self._rows):
            table.add_row(f"guest-{number:03d}", "container", "running", *self._figures(), key=str(number))
        self.set_interval(1.0, self._tick)

    def _tick(self) -> None:
        table = self._table()
        for number in range(self._rows):
            for title, text in zip(TITLES[3:], self._figures(), strict=True):
                table.update_cell(str(number), title, text)

    def _table(self) -> DataTable[str]:
        table: DataTable[str] = self.query_one(DataTable)
        return table

    def _figures(self) -> list[str]:
        value = self._random.random
        sizes = [f"{value() * 99:.1f}K" for _ in range(4)]
        return [f"{value() * 9:.2f}", f"{value() * 900:.1f}M", f"{value() * 9:.2f}", *sizes]


if __name__ == "__main__":
    StockTable(int(sys.argv[1]) if len(sys.argv) > 1 else 40).run()
