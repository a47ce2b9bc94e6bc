"""From the core's guests and figures to the rows of the table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import ceil

from app.core.commands import COMMANDS
from app.core.workstation import BackendStatus, Workstation
from backends.model import Guest, GuestKind
from widgets.guest_column import HISTORY_POINTS, cores_of
from widgets.guest_row import NO_RATES, GuestRow
from widgets.text import clean

_KIND_WORDS = {GuestKind.CONTAINER: "containers", GuestKind.VM: "virtual machines"}


def build_rows(station: Workstation, statuses: Sequence[BackendStatus], *, history: bool = False) -> list[GuestRow]:
    """Return a row for every guest that is known, with its latest figures. Reads memory only."""
    now_s = time.time()
    stale = {status.name: status.age_s or 0.0 for status in statuses if status.state in ("late", "lost")}
    titles = {status.name: group_title(status) for status in statuses}
    guests = station.fleet.guests()
    mixed = _mixed({(guest.ref.backend, guest.kind) for guest in guests})
    rows: list[GuestRow] = []
    for guest in guests:
        ref = guest.ref
        group = titles.get(ref.backend, ref.backend)
        if ref.backend in mixed:
            group = f"{group}, {_KIND_WORDS[guest.kind]}"
        live = guest.state.is_live
        rows.append(
            GuestRow(
                guest=guest,
                name=clean(station.fleet.display_name(guest)),
                rates=(station.latest(ref) or NO_RATES) if live else NO_RATES,
                group=group,
                pending=_pending(station.fleet.pending(ref)),
                stale_s=_coarse(stale[ref.backend]) if ref.backend in stale else None,
                cpu_shares=_shares(station, guest) if history and live else (),
                uptime_s=_coarse(now_s - guest.started_s) if live and guest.started_s is not None else None,
            )
        )
    return rows


def group_title(status: BackendStatus) -> str:
    """Heading of a backend's guests; simulated ones always say so."""
    title = clean(status.title)
    return f"SIMULATED {title}" if status.is_simulated and "simulated" not in title.lower() else title


def _mixed(kinds: set[tuple[str, GuestKind]]) -> set[str]:
    """Backends that have guests of several kinds."""
    seen: set[str] = set()
    return {name for name, _ in kinds if name in seen or seen.add(name)}  # type: ignore[func-returns-value]


def _pending(command: str | None) -> str:
    if not command:
        return ""
    known = COMMANDS.get(command)
    return known.verb if known is not None else command


def _shares(station: Workstation, guest: Guest) -> tuple[float | None, ...]:
    """The last CPU uses in steps of a quarter, as they are drawn: equal rows stay equal."""
    whole = 100.0 * cores_of(guest)
    return tuple(
        [
            None if value is None else ceil(min(1.0, value / whole) * 4 - 0.5) / 4 or (0.1 if value > 0 else 0.0)
            for value in station.history(guest.ref).series("cpu_pct", HISTORY_POINTS)
        ]
    )


def _coarse(seconds: float) -> float:
    """Whole minutes after the first: a table that counts seconds repaints every row every second."""
    return float(int(seconds)) if seconds < 60 else float(int(seconds // 60) * 60)
