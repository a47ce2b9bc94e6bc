"""The columns of the guest table: what each shows, how wide it is, and which go first when there is no room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backends.metrics import FIELDS
from backends.model import Guest, GuestKind, GuestState
from widgets.braille import braille_rows
from widgets.glyphs import GLYPHS, bar
from widgets.guest_row import GuestRow
from widgets.line import Role, Span
from widgets.text import clean, fit
from widgets.units import duration, quantity

Cell = Callable[[GuestRow, int], tuple[Span, ...]]
SortKey = Callable[[GuestRow], "float | str | None"]

STATE_ROLES: dict[GuestState, Role] = {
    GuestState.RUNNING: "good",
    GuestState.PAUSED: "accent",
    GuestState.STOPPING: "warn",
    GuestState.CREATING: "accent",
    GuestState.CREATED: "dim",
    GuestState.STOPPED: "dim",
    GuestState.RESTARTING: "warn",
    GuestState.LOST: "bad",
    GuestState.UNKNOWN: "warn",
}
KIND_WORDS = {GuestKind.CONTAINER: "ctr", GuestKind.VM: "vm"}
WARN_THROTTLED_PCT = 10.0
WARN_MEMORY_PCT = 90.0
HISTORY_POINTS = 20
"""CPU uses shown in the table, two a cell."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    """Field of Rates, or the column's own name."""

    letter: str
    """Key after `o` that sorts by it; empty if it cannot be sorted."""

    title: str
    width: int
    priority: int
    """0 is always shown; the highest goes first when the terminal is narrow."""

    cell: Cell
    sort: SortKey
    right: bool = True
    largest_first: bool = True
    moving: bool = False
    """True if its values move every second: the table then smooths the order."""

    meaning: str = ""


def _state(row: GuestRow, width: int) -> tuple[Span, ...]:
    state = row.guest.state
    if row.stale_s is not None:  # what it was is known, what it is is not: the note tells the old state
        return ((GLYPHS.state(GuestState.UNKNOWN), "warn"), (fit(f" {duration(row.stale_s)} ago", width - 1), "dim"))
    if row.pending:
        return ((GLYPHS.pending, "accent"), (fit(" " + state.value, width - 1), ""))
    word, role = _state_word(row)
    return ((GLYPHS.state(state), role or STATE_ROLES[state]), (fit(" " + word, width - 1), role))


def _state_word(row: GuestRow) -> tuple[str, Role]:
    """Its state, or what is wrong with it: a narrow table has no room for the note."""
    guest = row.guest
    if guest.state is GuestState.RUNNING and guest.health == "unhealthy":
        return guest.health, "bad"
    if guest.state is GuestState.STOPPED and guest.exit_code and (row.rates.oom_kills or guest.oom_kills):
        return "OOM-killed", "bad"
    return guest.state.value, ""


def _name(row: GuestRow, width: int) -> tuple[Span, ...]:
    return ((fit(row.name, width), "strong" if row.guest.state.is_live else ""),)


def _kind(row: GuestRow, width: int) -> tuple[Span, ...]:
    return ((fit(KIND_WORDS[row.guest.kind], width), ""),)


def cpu_share(row: GuestRow) -> float | None:
    """CPU use as a share of what the guest may use: its quota, a VM's vCPUs, or one core."""
    return None if row.rates.cpu_pct is None else row.rates.cpu_pct / (100.0 * cores_of(row.guest))


def cores_of(guest: Guest) -> float:
    """What a full bar stands for."""
    return guest.limits.cpus or guest.cpu_count or 1.0


def _cpu_bar(row: GuestRow, width: int) -> tuple[Span, ...]:
    share = cpu_share(row)
    return ((bar(share, width), "warn" if share is not None and share > 0.95 and row.guest.limits.cpus else "cpu"),)


def _cpu_history(row: GuestRow, width: int) -> tuple[Span, ...]:
    if not row.cpu_shares:
        return ((" " * width, ""),)
    return ((braille_rows(row.cpu_shares, 1.0, width, 1)[0], "cpu"),)


def _note(row: GuestRow, width: int) -> tuple[Span, ...]:
    told = clean(row.note)
    if told:
        return ((fit(told, width), _note_role(told)),)
    return ((fit("up " + duration(row.uptime_s) if row.uptime_s is not None else "", width), "dim"),)


def _note_role(told: str) -> Role:
    if told.startswith(("OOM", "unhealthy")):
        return "bad"
    return "good" if told.startswith("healthy") else "dim"


def _figure(name: str, alarm: float | None = None) -> Cell:
    unit = FIELDS[name].unit

    def cell(row: GuestRow, width: int) -> tuple[Span, ...]:
        value = getattr(row.rates, name)
        if value is None:
            return ((fit("", width), ""),)
        role: Role = "warn" if alarm is not None and value >= alarm else ""
        return ((fit(quantity(value, unit), width, right=True), role),)

    return cell


def _memory_limit(row: GuestRow, width: int) -> tuple[Span, ...]:
    limit, pct = row.rates.memory_limit_bytes, row.rates.memory_pct
    if limit is None or pct is None:
        return ((fit("", width), ""),)
    role: Role = "warn" if pct >= WARN_MEMORY_PCT else ""
    return ((fit(f"{quantity(pct, '%')}%", width, right=True), role),)


def _value(name: str) -> SortKey:
    return lambda row: getattr(row.rates, name)


def _of_field(
    letter: str, name: str, title: str, width: int, priority: int, cell: Cell | None = None, alarm: float | None = None
) -> Column:
    field = FIELDS[name]
    return Column(
        name,
        letter,
        title,
        width,
        priority,
        cell or _figure(name, alarm),
        _value(name),
        moving=True,
        meaning=field.meaning,
    )


_ORDER_OF_STATES = {
    state: index
    for index, state in enumerate(
        (
            GuestState.RUNNING,
            GuestState.PAUSED,
            GuestState.STOPPING,
            GuestState.RESTARTING,
            GuestState.CREATING,
            GuestState.CREATED,
            GuestState.LOST,
            GuestState.UNKNOWN,
            GuestState.STOPPED,
        )
    )
}

COLUMNS: tuple[Column, ...] = (
    Column(
        "state",
        "s",
        "STATE",
        12,
        0,
        _state,
        lambda row: _ORDER_OF_STATES[row.guest.state],
        right=False,
        largest_first=False,
        meaning="Its state, or unhealthy or OOM-killed; an arrow: an operation runs; ?: last seen so long ago.",
    ),
    Column(
        "name",
        "n",
        "NAME",
        14,
        0,
        _name,
        lambda row: row.name.casefold(),
        right=False,
        largest_first=False,
        meaning="Its name, with the backend where the name alone is not unique.",
    ),
    Column(
        "kind",
        "k",
        "KIND",
        4,
        6,
        _kind,
        lambda row: row.guest.kind.value,
        right=False,
        largest_first=False,
        meaning="Container (ctr) or virtual machine (vm).",
    ),
    _of_field("c", "cpu_pct", "CPU%", 5, 0),
    Column(
        "cpu_bar",
        "",
        "",
        6,
        5,
        _cpu_bar,
        lambda row: None,
        right=False,
        meaning="CPU use as a share of its limit, or of one core.",
    ),
    Column(
        "cpu_history",
        "",
        "LAST 20",
        HISTORY_POINTS // 2,
        9,
        _cpu_history,
        lambda row: None,
        right=False,
        meaning="The last CPU uses as shares of the limit, or of one core; the newest at the right.",
    ),
    _of_field("h", "cpu_throttled_pct", "THR%", 5, 2, alarm=WARN_THROTTLED_PCT),
    _of_field("m", "memory_bytes", "MEM", 5, 0),
    _of_field("p", "memory_pct", "/LIMIT", 6, 1, _memory_limit),
    _of_field("r", "io_read_bytes_per_s", "READ/s", 6, 3),
    _of_field("w", "io_write_bytes_per_s", "WRIT/s", 6, 3),
    _of_field("d", "net_rx_bytes_per_s", "RX/s", 5, 4),
    _of_field("u", "net_tx_bytes_per_s", "TX/s", 5, 4),
    _of_field("i", "pids", "PIDS", 5, 7),
    Column(
        "note",
        "a",
        "UP / NOTE",
        10,
        8,
        _note,
        lambda row: row.uptime_s,
        right=False,
        meaning="Time since its start, or what is wrong with it.",
    ),
)
BY_NAME = {column.name: column for column in COLUMNS}
BY_LETTER = {column.letter: column for column in COLUMNS if column.letter}
MOVING = tuple(column for column in COLUMNS if column.moving)
