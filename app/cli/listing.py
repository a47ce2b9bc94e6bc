"""`inn ps`: the guests, as a table or as JSON."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from app.cli.figures import NONE, age_text
from app.cli.guest_json import guest_json
from app.cli.output import cell_width, cut, table_lines
from backends.model import Guest, GuestKind, GuestState, short_ports

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.core.fleet import Fleet

_TITLES = ("NAME", "KIND", "STATE", "UP", "IMAGE", "LIMITS", "ADDRESS", "PORTS", "ID", "NOTE")
_GO_FIRST = ("KIND", "IMAGE", "LIMITS", "ADDRESS", "NOTE", "PORTS", "ID")
"""What a terminal that is too narrow does without, in this order; a column that says nothing goes before all others."""

_NOTE_LEAST = 16
_NOTE_WIDTH = 48
_NO_GUESTS = "no guests. `inn run` makes a container, `inn demo` some to look at"
_NONE_FITS = "no guest is like that; `inn ps` lists all"


def ps_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn ps`."""
    parser.add_argument("-a", "--all", action="store_true", help="all guests; this is the default")
    parser.add_argument("-l", "--live", action="store_true", help="only those that run, are paused or are stopping")
    parser.add_argument("--kind", choices=[str(kind) for kind in GuestKind], help="only containers or only VMs")
    parser.add_argument("--state", choices=[str(state) for state in GuestState], help="only those in this state")
    parser.add_argument(
        "--label", metavar="KEY[=VALUE]", action="append", default=[], help="only those with this label"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids only")
    parser.add_argument("--json", action="store_true", help="print an array of objects")


def ps_verb(args: argparse.Namespace, context: Context) -> int:
    """List the guests."""
    with context.workstation() as station:
        guests = [guest for guest in station.fleet.guests() if _is_wanted(guest, args)]
        if args.json:
            context.out.json([guest_json(guest) for guest in guests])
        elif args.quiet:
            for guest in guests:
                context.out.line(guest.ref.id)
        elif guests:
            _print_table(context, station.fleet, guests)
            context.note_simulated(station)
        code = context.note_missing(station)
        if not (guests or args.json or args.quiet or code):
            context.talk.note(_NONE_FITS if station.fleet.guests() else _NO_GUESTS)
        return code


def _is_wanted(guest: Guest, args: argparse.Namespace) -> bool:
    if args.live and not args.all and not guest.state.is_live:
        return False
    if args.kind is not None and guest.kind != args.kind:
        return False
    if args.state is not None and guest.state != args.state:
        return False
    return all(_has_label(guest, label) for label in args.label)


def _has_label(guest: Guest, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in guest.labels and (not equals or guest.labels[key] == value)


def _print_table(context: Context, fleet: Fleet, guests: list[Guest]) -> None:
    rows = [_row(fleet, guest) for guest in guests]
    hidden = {"PORTS"} if not any(guest.ports for guest in guests) else set()
    shown = [index for index, title in enumerate(_TITLES) if title not in hidden]
    table = [[row[index] for index in shown] for row in (_TITLES, *rows)]
    if context.out.is_terminal:
        table = fitted(table, context.out.width)
    context.out.table(table[0], table[1:])
    context.out.flush()


def fitted(table: list[list[str]], room: int) -> list[list[str]]:
    """Return a table, headed by titles, as it fits: without what says nothing, with less of NOTE, then with less."""
    silent = [title for title, *cells in zip(*table, strict=True) if all(cell in ("", NONE) for cell in cells)]
    for title in [*(each for each in _GO_FIRST if each in silent), "", *_GO_FIRST]:
        over = max(cell_width(line) for line in table_lines(table[0], table[1:])) - room
        if over <= 0:
            break
        if title in table[0]:
            at = table[0].index(title)
            table = [[*row[:at], *row[at + 1 :]] for row in table]
        elif not title and "NOTE" in table[0]:
            at = table[0].index("NOTE")
            most = max(_NOTE_LEAST, max(cell_width(row[at]) for row in table) - over)
            table = [[*row[:at], cut(row[at], most), *row[at + 1 :]] for row in table]
    return table


def _row(fleet: Fleet, guest: Guest) -> tuple[str, ...]:
    from app.core.limits import describe

    limits = ", ".join(f"{title} {text}" for title, text in describe(guest.limits))
    return (
        fleet.display_name(guest),
        str(guest.kind),
        state_text(guest),
        age_text(guest.started_s) if guest.state.is_live else NONE,
        guest.image or NONE,
        limits or NONE,
        ", ".join(guest.addresses) or NONE,
        short_ports(guest.ports) or NONE,
        guest.ref.id[:12],
        _short(guest.note),
    )


def _short(note: str) -> str:
    """Return a note that fits a table; `inn inspect` has it whole."""
    return note if len(note) <= _NOTE_WIDTH else note[: _NOTE_WIDTH - 1] + "…"


def state_text(guest: Guest) -> str:
    """Return the state with its reasons: "stopped (137, 1 OOM kill)", "running (healthy)"."""
    reasons = [guest.health] if guest.health and guest.state.is_live else []
    if not guest.state.is_live and guest.exit_code is not None:
        reasons.append(str(guest.exit_code))
    if guest.restarts:
        reasons.append(f"restart {guest.restarts}")
    if guest.oom_kills:
        reasons.append(f"{guest.oom_kills} OOM kill" + ("s" if guest.oom_kills > 1 else ""))
    return f"{guest.state} ({', '.join(reasons)})" if reasons else str(guest.state)
