"""What was asked for in this session: how far it is, what it prints, how it ended."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget

from app.core.commands import COMMANDS
from app.core.operations import Operation
from app.tui.messages import Batch
from app.tui.questions import confirm
from app.tui.screens.asset import AssetScreen
from backends.errors import Cancelled
from backends.model import LogLine
from widgets.glyphs import GLYPHS
from widgets.line import Line, Role, Span, line, wrap
from widgets.line_view import LineView
from widgets.log_view import LogView
from widgets.operation_table import OperationRow, OperationTable
from widgets.progress_lines import progress_lines
from widgets.step_list import step_lines, took
from widgets.text import clean, counted

MOST_PARTS = 12
"""Lines that the parts may take above the log."""


class OperationPane(Vertical):
    """One operation: what it is, its parts, and below them what it printed or the steps it took."""

    DEFAULT_CSS = """
    OperationPane > #parts { height: auto; max-height: 60%; }
    OperationPane > LogView { height: 1fr; border-top: solid $border; }
    OperationPane > #steps { height: 1fr; border-top: solid $border; }
    """

    def compose(self) -> ComposeResult:
        parts = LineView(id="parts")
        parts.can_focus = False
        yield parts
        yield LogView(id="log")
        yield LineView(id="steps")

    def on_mount(self) -> None:
        self._shown = 0
        self._operation_id: int | None = None

    def show(self, operation: Operation, lines: list[Line]) -> None:
        """Draw an operation; of its output only what is new."""
        parts, log, steps = (
            self.query_one("#parts", LineView),
            self.query_one(LogView),
            self.query_one("#steps", LineView),
        )
        if self._operation_id != operation.id:
            self._operation_id, self._shown = operation.id, 0
            log.clear()
            log.follows = True
        parts.show(lines)
        height = max(1, min(len(lines), self.size.height * 3 // 5 or MOST_PARTS))
        if parts.styles.height is None or parts.styles.height.value != height:
            parts.styles.height = height
        said = operation.said
        fresh = list(operation.lines)[-(said - self._shown) :] if said > self._shown else []
        self._shown = said
        log.display, steps.display = bool(said), not said and bool(operation.records)
        if fresh:
            now_s = time.time()
            log.add([LogLine(now_s, "stdout", text.encode("utf-8", "replace") + b"\n") for text in fresh])
        if steps.display:
            steps.show(step_lines(list(operation.records), max(40, self.size.width - 2)))

    def focus_inside(self) -> None:
        """What can be scrolled gets the keys."""
        log, steps = self.query_one(LogView), self.query_one("#steps", LineView)
        (steps if steps.display else log).focus()


class OperationScreen(AssetScreen[OperationRow]):
    """All operations of this session; read from memory, no backend is asked."""

    view_name = "operations"
    MORE_HINTS = (("x", "cancel"), ("Enter", "progress and log"), ("/", "filter"), ("o", "sort"))
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x,delete", "cancel", "give it up", show=False, id="operation.cancel"),
    ]

    def make_table(self) -> OperationTable:
        return OperationTable(id="list")

    def make_pane(self) -> Widget:
        return OperationPane(id="pane")

    def focus_pane(self) -> None:
        assert isinstance(self.pane, OperationPane)
        self.pane.focus_inside()

    def why_empty(self) -> str:
        return "nothing fits the filter: Esc clears it" if self.table.rows else "nothing was asked for yet"

    def rows(self) -> list[OperationRow]:
        self._operations = {each.id: each for each in self.station.operations()}
        now_s = time.time()
        return [self._row(each, now_s) for each in self._operations.values()]

    def _row(self, operation: Operation, now_s: float) -> OperationRow:
        figures = self.innkeeper.progress.of(operation)
        took_s = (operation.ended_s if operation.ended_s is not None else now_s) - operation.started_s
        share, detail = (figures.share if operation.parts else None), figures.doing
        if operation.error is not None:
            detail, share = operation.error.message, None if operation.is_done else share
        elif operation.is_done:
            share, detail = None, counted(len(operation.records), "step") if operation.records else ""
        elif not operation.has_begun:
            detail = "waits for its turn"
        # Of what runs, whole seconds: a table of tenths would be painted ten times a second.
        return OperationRow(
            operation.id, operation.title, state_of(operation), operation.started_s,
            took_s if operation.is_done else float(int(took_s)), share,
            None if operation.is_done else figures.bytes_per_s, None if operation.is_done else figures.left_s, detail,
        )  # fmt: skip

    def backend_of(self, row: OperationRow) -> str:
        return self._operations[row.id].backend

    def name_of(self, row: OperationRow) -> str:
        return row.title

    def progressed(self, batch: Batch) -> None:
        super().progressed(batch)
        self.show_list()

    def summary(self) -> list[Span]:
        running = sum(row.state in ("running", "waiting", "cancelling") for row in self.table.rows)
        return [(f" {running} running, {len(self.table.rows) - running} ended ", "dim")]

    def draw_details(self, row: OperationRow | None, facts: Any) -> None:
        pane = self.pane
        assert isinstance(pane, OperationPane)
        if row is not None and row.id in self._operations:
            operation = self._operations[row.id]
            pane.show(operation, self.detail_lines(row, None, max(40, pane.size.width - 3)))

    def detail_lines(self, row: OperationRow, facts: Any, width: int) -> list[Line]:
        operation = self._operations[row.id]
        state, role = row.state, ROLES.get(row.state, "")
        help_text = COMMANDS[operation.command].help if operation.command in COMMANDS else ""
        lines = [
            line((operation.title, "title"), "  ", (help_text, "dim")),
            line((state, role), f"  {took(row.took_s)}  on {operation.backend}"),
        ]
        if operation.error is not None:
            lines += wrap(line((f"{GLYPHS.warning} {operation.error.message}", "bad")), width, 2)
            if operation.error.hint:
                lines += wrap(line("  ", (operation.error.hint, "accent")), width, 2)
        lines += progress_lines(self.innkeeper.progress.of(operation).parts, width)
        return lines

    def action_cancel(self) -> None:
        """Give up what is chosen; what would be lost is asked for first."""
        running = [each for row in self.table.chosen if not (each := self._operations[row.id]).is_done]
        able = [operation for operation in running if operation.can_be_cancelled]
        if not running:
            self.say("it has ended")
        elif not able:
            self.say(f"{clean(running[0].title)} cannot be given up on the way; it ends by itself", "warn")
        else:
            details = [line(f"  {operation.title}") for operation in able[:8]] if len(able) > 1 else []
            details.append(line(("Nothing half made stays.", "dim")))
            what = clean(able[0].title) if len(able) == 1 else f"{len(able)} operations"
            confirm(self.app, f"Give up {what}?", details, "give it up", lambda: self._cancel(able))

    def _cancel(self, operations: list[Operation]) -> None:
        for operation in operations:
            operation.cancel()
        self.show_list()


ROLES: dict[str, Role] = {"failed": "bad", "done": "good", "running": "accent", "cancelled": "warn"}


def state_of(operation: Operation) -> str:
    """Say how it is with an operation in one word."""
    if not operation.is_done:
        if operation.is_cancelled:
            return "cancelling"
        return "running" if operation.has_begun else "waiting"
    if operation.error is None:
        return "done"
    return "cancelled" if isinstance(operation.error, Cancelled) else "failed"
