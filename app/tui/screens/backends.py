"""The host and its backends: what works, what does not and why, and what reading them costs."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from app.core.workstation import BackendStatus
from app.tui.host import HostReader
from app.tui.messages import CoreChanged
from app.tui.roster import Roster
from widgets.line import EMPTY, Line, Role, line
from widgets.line_view import LineView
from widgets.text import clean, fit
from widgets.units import percent, size

_ROLES: dict[str, Role] = {"up": "good", "late": "warn", "lost": "bad", "connecting": "accent", "off": "dim"}


class BackendScreen(ModalScreen[None]):
    """Follows the core while it is open."""

    DEFAULT_CSS = """
    BackendScreen { align: center middle; }
    BackendScreen LineView { width: 100; max-width: 100%; height: 22; max-height: 100%; border: round $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,H,enter", "dismiss(None)", "back", show=False, id="backends.back"),
    ]

    def __init__(self, roster: Roster, host: HostReader) -> None:
        super().__init__()
        self._roster, self._host = roster, host

    def compose(self) -> ComposeResult:
        view = LineView()
        view.border_title = "Host and backends (Esc goes back)"
        yield view

    def on_mount(self) -> None:
        self.query_one(LineView).show(self._lines())

    def on_core_changed(self, message: CoreChanged) -> None:
        for view in self.query(LineView):
            view.show(self._lines())

    def _lines(self) -> list[Line]:
        figures = self._host.figures
        lines = [
            line(" ", (clean(figures.name), "title")),
            line(
                f" CPU {percent(figures.cpu_pct)} % of {figures.cpus}, memory {size(figures.memory_used_bytes)}"
                f" of {size(figures.memory_total_bytes)}"
            ),
            line(
                f" This program uses {percent(self._roster.own_cpu_pct)} % of one core,"
                f" reading every {self._roster.station.interval_s:g} s"
            ),
        ]
        for status in self._roster.statuses:
            lines += [EMPTY, *_backend(status)]
        more = " inn doctor tells more of what works on this host and what would mend the rest"
        return [*lines, EMPTY, line((more, "dim"))]


def _backend(status: BackendStatus) -> list[Line]:
    state = status.state
    age = f", last answer {status.age_s:.0f} s ago" if status.age_s is not None and state != "up" else ""
    made_up = " (simulated)" if status.is_simulated else ""
    title = f"{age}  {clean(status.title)}{made_up}"
    lines = [line(" ", (fit(clean(status.name), 12), "strong"), (state, _ROLES[state]), title)]
    if state == "up":
        cost = f", {status.sample_cost_s * 1000:.1f} ms of CPU a pass" if status.sample_cost_s is not None else ""
        lines.append(line((" " * 13 + f"{status.guests} {'guest' if status.guests == 1 else 'guests'}{cost}", "dim")))
    if status.error is not None:
        lines.append(line(" " * 13, (clean(status.error.message), "warn")))
        if status.error.hint:
            lines.append(line(" " * 13, (clean(status.error.hint), "dim")))
    return lines
