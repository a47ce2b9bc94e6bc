"""The pages of the details: each knows its widget, what to ask, and when to ask again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from app.core.limits import LIMIT_FIELDS
from app.tui.log_follower import LogFollower
from app.tui.messages import Batch
from backends.base import Backend, Logging, Processes, Snapshotting
from backends.errors import InnkeeperError
from backends.events import OperationEnded
from backends.model import GuestProcess, GuestRef, LogLine, Snapshot
from backends.trace import StepRecord
from widgets.glyphs import GLYPHS
from widgets.guest_card import card_lines
from widgets.guest_row import GuestRow
from widgets.history_chart import HistoryChart, Series
from widgets.line import Line, Span, line
from widgets.line_view import LineView
from widgets.log_view import LogView
from widgets.process_list import process_head, process_lines
from widgets.snapshot_tree import SnapshotTree
from widgets.step_list import operation_line, step_lines

if TYPE_CHECKING:
    from app.tui.details import Details

PROCESSES_EVERY_S = 2.0


class Page:
    """One tab. `draw` shows what is known at once; `show` may ask; `news` comes with every pass."""

    title: ClassVar[str] = ""
    asks: ClassVar[bool] = False

    def __init__(self, details: Details) -> None:
        self.details = details

    def make(self) -> LineView:
        """Its widget."""
        self.view = LineView()
        return self.view

    def draw(self, row: GuestRow) -> None:
        """Show what is known without asking."""

    def show(self, row: GuestRow) -> None:
        """Ask for what is not known: the user looks at it."""

    def news(self, row: GuestRow, batch: Batch) -> None:
        """The core has news while the page is in view."""

    def hide(self) -> None:
        """Out of view."""

    def forget(self) -> None:
        """Another guest."""

    def right(self) -> list[Span]:
        """What it adds to the line of news."""
        return []

    def fail(self, error: InnkeeperError) -> None:
        """Tell why there is nothing to see."""
        self.view.show([line((f" {error.message}", "warn")), line((f" {error.hint}", "dim"))])

    def lacks(self, backend: Backend, what: str) -> None:
        """Tell that the backend has no such thing."""
        self.view.show([line((f" {backend.title} has no {what}", "dim"))])


class OverviewPage(Page):
    """The card."""

    title = "Overview"

    def draw(self, row: GuestRow) -> None:
        devices = [
            (f"{field.title} {entry.device}", field.format(value))
            for entry in row.guest.limits.io_devices for field in LIMIT_FIELDS.values()
            if field.device_field and (value := getattr(entry, field.device_field)) is not None
        ]
        self.view.show(card_lines(row, devices))

    def news(self, row: GuestRow, batch: Batch) -> None:
        self.draw(row)


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


def chart_series(read: Any, row: GuestRow) -> list[Series]:
    """The charts of a guest; `read` gives the newest values of a field of Rates."""
    limits, rates = row.guest.limits, row.rates
    cores = limits.cpus or row.guest.cpu_count
    memory = rates.memory_limit_bytes or limits.memory_bytes
    kib = 1024.0

    def values(name: str) -> tuple[float | None, ...]:
        return tuple(read(name, 600))

    return [
        Series("CPU", "%", "cpu", values("cpu_pct"), cores * 100 if cores else None,
               "limit" if limits.cpus else "vCPUs", bool(limits.cpus), 10.0),
        Series("Memory", "bytes", "memory", values("memory_bytes"), memory, floor=1024 * kib),
        Series("Disk read", "bytes/s", "io", values("io_read_bytes_per_s"), limits.io_read_bytes_per_s, floor=64 * kib),
        Series("Disk write", "bytes/s", "io", values("io_write_bytes_per_s"), limits.io_write_bytes_per_s,
               floor=64 * kib),
        Series("Net receive", "bytes/s", "net", values("net_rx_bytes_per_s"), limits.net_rx_bytes_per_s,
               floor=16 * kib),
        Series("Net send", "bytes/s", "net", values("net_tx_bytes_per_s"), limits.net_tx_bytes_per_s, floor=16 * kib),
    ]


class LogsPage(Page):
    """What it printed, followed."""

    title = "Logs"
    asks = True

    def __init__(self, details: Details) -> None:
        super().__init__(details)
        self._follower: LogFollower | None = None
        self._ref: GuestRef | None = None
        self._was_live = False
        self._state = ""

    def make(self) -> LineView:
        self.log = LogView()
        self.view = self.log
        return self.log

    def show(self, row: GuestRow) -> None:
        self._was_live = row.guest.state.is_live
        if self._ref == row.ref and self._follower is not None:
            return
        backend = self.details.roster.backend(row.ref)
        if backend is None:
            self._say(f"{row.ref.backend} does not answer")
        elif not isinstance(backend, Logging):
            self._say(f"{backend.title} keeps no logs")
        else:
            self._begin(backend, row.ref)

    def _begin(self, backend: Logging, ref: GuestRef) -> None:
        self.hide()
        self.log.clear()
        self.log.empty_text = "nothing printed yet"
        self._ref, self._state = ref, "following"
        app = self.details.owner.innkeeper
        self._follower = LogFollower(backend, ref, app.loop, app.context, self.log.add, self._ended)

    def news(self, row: GuestRow, batch: Batch) -> None:
        live = row.guest.state.is_live
        if self._follower is None and live and not self._was_live and row.ref == self._ref:
            self.show(row)  # it was started again
        self._was_live = live

    def _ended(self, error: InnkeeperError | None) -> None:
        self._follower, self._state = None, "ended"
        self.log.finish()
        if error is not None:
            self._say(error.message)
        self.details.owner.show_message()

    def hide(self) -> None:
        if self._follower is not None:
            self._follower.stop()
            self._follower = None

    def forget(self) -> None:
        self.hide()
        self._ref = None
        self.log.clear()

    def right(self) -> list[Span]:
        log = self.log
        flags = [name for name, on in (("follow", log.follows), ("times", log.shows_times), ("wrap", log.wraps)) if on]
        spans: list[Span] = [(f" {' '.join(flags)} ", "accent")] if flags else []
        if log.pattern is not None:
            spans.append((f" /{log.pattern.pattern} {log.hits} hits ", "strong"))
        spans.append((f" {len(log.printed)} lines, {self._state or 'not read'} ", "dim"))
        return spans

    def _say(self, text: str) -> None:
        self.log.empty_text = text
        if not self.log.lines:
            self.log.refresh()


class ProcessesPage(Page):
    """Its processes."""

    title = "Processes"
    asks = True

    def __init__(self, details: Details) -> None:
        super().__init__(details)
        self._asked_s = 0.0

    def draw(self, row: GuestRow) -> None:
        self.view.empty_text = "it does not run" if not row.guest.state.is_live else "reading the processes"
        if not row.guest.state.is_live:
            self.view.show([])

    def show(self, row: GuestRow) -> None:
        self._asked_s = time.monotonic()
        backend = self.details.roster.backend(row.ref)
        if not row.guest.state.is_live or backend is None:
            return
        if not isinstance(backend, Processes):
            self.lacks(backend, "list of processes")
            return
        processes = backend.processes

        def reply(found: Sequence[GuestProcess]) -> None:
            self.view.show(process_lines(found), head=process_head())

        self.details.ask("processes", lambda _: processes(row.ref), reply, self.fail)

    def news(self, row: GuestRow, batch: Batch) -> None:
        self.draw(row)
        if time.monotonic() - self._asked_s >= PROCESSES_EVERY_S - 0.2:
            self.show(row)

    def forget(self) -> None:
        self.view.show([])


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
        if _ended_for(row, batch.ended):
            self.show(row)

    def forget(self) -> None:
        self.tree.show_snapshots([])


class TracePage(Page):
    """The steps that were done to it."""

    title = "Trace"
    asks = True

    def __init__(self, details: Details) -> None:
        super().__init__(details)
        self._count = -1

    def make(self) -> LineView:
        super().make()
        self.view.empty_text = "no steps recorded"
        return self.view

    def show(self, row: GuestRow) -> None:
        def reply(records: Sequence[StepRecord]) -> None:
            at_end = self.view.is_at_end or self._count < 0
            self.view.show(step_lines(records, max(40, self.view.size.width - 1)))
            if at_end and len(records) != self._count:
                self.view.action_edge(1)
            self._count = len(records)

        self.details.ask("trace", lambda backend: backend.trace(row.ref), reply, self.fail)

    def news(self, row: GuestRow, batch: Batch) -> None:
        if batch.steps or _ended_for(row, batch.ended):
            self.show(row)

    def forget(self) -> None:
        self._count = -1
        self.view.show([])


class OperationsPage(Page):
    """What was asked for in this session, on all guests."""

    title = "Operations"

    def draw(self, row: GuestRow) -> None:
        self.view.empty_text = "nothing was asked for yet"
        lines: list[Line] = []
        for operation in reversed(self.details.roster.station.operations()):
            ended = operation.ended_s
            failed = operation.error is not None
            state = "running" if not operation.is_done else "failed" if failed else "done"
            detail = operation.error.message if operation.error is not None else f"{len(operation.records)} steps"
            lines.append(operation_line(operation.started_s, operation.title, state,
                                        None if ended is None else ended - operation.started_s, detail, failed=failed))
        self.view.show(lines)

    def news(self, row: GuestRow, batch: Batch) -> None:
        self.draw(row)


class InspectPage(Page):
    """All that is known of it, as it is."""

    title = "Inspect"
    asks = True

    def show(self, row: GuestRow) -> None:
        self.details.ask("inspect", lambda backend: _json_lines(backend.inspect(row.ref)), self.view.show, self.fail)

    def news(self, row: GuestRow, batch: Batch) -> None:
        if batch.fleet or _ended_for(row, batch.ended):
            self.show(row)

    def forget(self) -> None:
        self.view.show([])


def _json_lines(value: object) -> list[Line]:
    import json

    lines: list[Line] = []
    for text in json.dumps(value, indent=2, default=str, ensure_ascii=False).splitlines():
        key, colon, rest = text.partition('": ')
        lines.append(line(" ", (key + colon, "accent"), rest) if colon else line(" " + text))
    return lines


def _ended_for(row: GuestRow, ended: Sequence[OperationEnded]) -> bool:
    return any(event.ref == row.ref for event in ended)


PAGES: dict[str, type[Page]] = {
    "overview": OverviewPage, "charts": ChartsPage, "logs": LogsPage, "processes": ProcessesPage,
    "snapshots": SnapshotsPage, "trace": TracePage, "operations": OperationsPage, "inspect": InspectPage,
}

__all__ = ["GLYPHS", "PAGES", "LogLine", "Page"]
