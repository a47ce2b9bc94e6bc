"""The line at the top: which host, what works, how fresh, and what all this costs."""

from __future__ import annotations

from collections.abc import Sequence

from app.core.operations import Operation
from app.core.workstation import BackendStatus
from app.tui.host import HostFigures
from app.tui.progress import ProgressBook
from widgets.glyphs import GLYPHS
from widgets.line import Line, Role, Span, width_of
from widgets.text import clean
from widgets.units import percent, rate, size

TITLE = 32
"""Cells that the title of a running operation may take."""

_SIGNS: dict[str, tuple[str, str, Role]] = {
    "connecting": ("◌", "o", "accent"),
    "up": ("●", "*", "good"),
    "late": ("◐", "~", "warn"),
    "lost": ("✗", "x", "bad"),
    "off": ("○", "-", "dim"),
}


def status_lines(
    host: HostFigures,
    statuses: Sequence[BackendStatus],
    *,
    interval_s: float,
    own_cpu_pct: float | None,
    frozen: bool,
    width: int,
    work: Sequence[Span] = (),
) -> tuple[Line, Line]:
    """Left and right part; what matters least is left out first when the terminal is narrow."""
    name: list[Span] = [(f" {clean(host.name)} ", "title")]
    if any(status.is_simulated for status in statuses):
        name.append((" SIMULATED ", "hit"))
    if frozen:
        name.append((" FROZEN, z goes on ", "hit"))
    figures: list[Span] = [
        (
            f" CPU {percent(host.cpu_pct):>4}% of {host.cpus}  mem {size(host.memory_used_bytes):>5}"
            f"/{size(host.memory_total_bytes)} ",
            "",
        )
    ]
    backends = [span for status in statuses for span in _backend(status, short=False)]
    short = [span for status in statuses for span in _backend(status, short=True)]
    pace: list[Span] = [(f" every {interval_s:g} s ", "dim")]
    cost: list[Span] = [(f" own {own_cpu_pct:.1f}% ", "dim")] if own_cpu_pct is not None else []
    for left, right in (
        ([*name, *figures, *backends], [*work, *pace, *cost]),
        ([*name, *figures, *short], [*work, *pace, *cost]),
        ([*name, *short], [*work, *pace, *cost]),
        ([*name, *short], [*work, *cost]),
        ([*name, *short], [*work]),
        (name, [*work]),
    ):
        if width_of(tuple(left)) + width_of(tuple(right)) < width:
            return tuple(left), tuple(right)
    return (*name, *short), ()


def work_spans(operations: Sequence[Operation], book: ProgressBook) -> tuple[Span, ...]:
    """What takes long and runs now: the newest with how far it is, and how many more."""
    long = [operation for operation in operations if operation.parts]
    if not long:
        return ()
    newest = long[-1]
    figures = book.of(newest)
    told = clean(newest.title)
    told = told if len(told) <= TITLE else told[: TITLE - 1] + GLYPHS.ellipsis
    share = f" {figures.share * 100:.0f}%" if figures.share is not None else ""
    pace = f" {rate(figures.bytes_per_s)}/s" if figures.bytes_per_s else ""
    more = f" +{len(long) - 1}" if len(long) > 1 else ""
    return ((f" {GLYPHS.pending} {told}{share}{pace}{more} ", "accent"),)


def _backend(status: BackendStatus, *, short: bool) -> list[Span]:
    sign, ascii_sign, role = _SIGNS[status.state]
    age = f" {status.age_s:.0f} s" if status.state in ("late", "lost") and status.age_s is not None else ""
    word = "" if status.state == "up" else f" {status.state}{age}"
    count = f" {status.guests}" if status.state == "up" else ""
    why = ""
    if not short and status.error is not None and status.state in ("off", "lost"):
        told = clean(status.error.message)
        why = f": {told if len(told) <= 48 else told[:47] + GLYPHS.ellipsis}"
    return [(" ", ""), (ascii_sign if GLYPHS.is_ascii else sign, role), (f" {status.name}{count}{word}{why} ", "")]
