"""What a guest did lately, as charts with its limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.tui.messages import Batch
from app.tui.pages.page import Page
from widgets.guest_row import GuestRow
from widgets.history_chart import HistoryChart, Series
from widgets.line_view import LineView


class ChartsPage(Page):
    """CPU, memory, disk and network over time."""

    title = "Charts"

    def make(self) -> LineView:
        self.chart = HistoryChart()
        self.view = self.chart
        return self.chart

    def draw(self, row: GuestRow) -> None:
        station = self.details.roster.station
        self.chart.plot(chart_series(station.history(row.ref).series, row), station.interval_s)

    def news(self, row: GuestRow, batch: Batch) -> None:
        if not batch.sampled or row.ref.backend in batch.sampled or batch.fleet:
            self.draw(row)


def chart_series(read: Callable[[str, int], Sequence[float | None]], row: GuestRow) -> list[Series]:
    """The charts of a guest; `read` gives the newest values of a field of Rates."""
    limits, rates = row.guest.limits, row.rates
    cores = limits.cpus or row.guest.cpu_count
    memory = rates.memory_limit_bytes or limits.memory_bytes
    kib = 1024.0

    def values(name: str) -> tuple[float | None, ...]:
        return tuple(read(name, 600))

    return [
        Series(
            "CPU",
            "%",
            "cpu",
            values("cpu_pct"),
            cores * 100 if cores else None,
            "limit" if limits.cpus else "vCPUs",
            bool(limits.cpus),
            10.0,
        ),
        Series("Memory", "bytes", "memory", values("memory_bytes"), memory, floor=1024 * kib),
        Series("Disk read", "bytes/s", "io", values("io_read_bytes_per_s"), limits.io_read_bytes_per_s, floor=64 * kib),
        Series(
            "Disk write", "bytes/s", "io", values("io_write_bytes_per_s"), limits.io_write_bytes_per_s, floor=64 * kib
        ),
        Series(
            "Net receive", "bytes/s", "net", values("net_rx_bytes_per_s"), limits.net_rx_bytes_per_s, floor=16 * kib
        ),
        Series("Net send", "bytes/s", "net", values("net_tx_bytes_per_s"), limits.net_tx_bytes_per_s, floor=16 * kib),
    ]
