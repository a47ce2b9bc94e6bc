"""The processes of a guest as the host sees them."""

from __future__ import annotations

from collections.abc import Sequence

from backends.model import GuestProcess
from widgets.line import Line, Role, line
from widgets.text import clean, fit
from widgets.units import UNKNOWN, size

_STATE_ROLES: dict[str, Role] = {"R": "good", "D": "bad", "Z": "bad"}


def process_head() -> Line:
    """The heading."""
    return line((f" {'PID':>8} {'IN GUEST':>8} {'USER':<10} S {'TIME':>9} {'RSS':>6} {'THR':>4} COMMAND", "head"))


def process_lines(processes: Sequence[GuestProcess]) -> list[Line]:
    """One line each, busiest first."""
    ordered = sorted(processes, key=lambda process: (-process.cpu_time_s, process.pid))
    return [
        line(
            f" {process.pid:>8} {process.guest_pid if process.guest_pid is not None else UNKNOWN:>8} ",
            fit(clean(process.user), 10),
            " ",
            (clean(process.state)[:1] or "?", _STATE_ROLES.get(process.state, "")),
            f" {_time(process.cpu_time_s):>9} {size(process.rss_bytes):>6} {process.threads:>4} ",
            (process.command, "strong"),
        )
        for process in ordered
    ]


def _time(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:05.2f}"
