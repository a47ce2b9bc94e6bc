"""`inn top`: figures sample after sample, for people as a table, for programs as JSON lines or CSV."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from app.cli.figures import figure_text, time_text
from app.cli.listing import state_text
from app.cli.output import table_lines
from app.cli.pace import Collector
from backends.errors import InnkeeperError, UsageError
from backends.metrics import FIELDS, Rates

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.core.workstation import Workstation
    from backends.model import Guest

_SHOWN = (
    "cpu_pct",
    "cpu_throttled_pct",
    "memory_bytes",
    "memory_limit_bytes",
    "io_read_bytes_per_s",
    "io_write_bytes_per_s",
    "net_rx_bytes_per_s",
    "net_tx_bytes_per_s",
    "pids",
)
_WIDEST_NAME = 32

KEYS = ("time", "name", "backend", "kind", "state", "id", *FIELDS)
"""Columns of the CSV and keys of the JSON, in order."""


def top_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn top`."""
    from app.core.units import parse_duration

    parser.add_argument(
        "-n", "--count", type=_count, metavar="N", help="print N samples and end (default: until Ctrl-C)"
    )
    parser.add_argument(
        "-d",
        "--delay",
        type=parse_duration,
        default=1.0,
        metavar="SECONDS",
        help="time between two samples (1); the first comes at once",
    )
    parser.add_argument("-a", "--all", action="store_true", help="all guests; this is the default")
    parser.add_argument("-l", "--live", action="store_true", help="only those that run, are paused or are stopping")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one object a line for each guest and sample")
    form.add_argument("--csv", action="store_true", help="print CSV with a line of titles")
    parser.add_argument("guests", metavar="GUEST", nargs="*", help="only these guests")


def _count(text: str) -> int:
    from app.core.units import parse_count

    count = parse_count(text, what="number of samples")
    if count < 1:
        raise UsageError("top: -n must be at least 1")
    return count


def top_verb(args: argparse.Namespace, context: Context) -> int:
    """Print the figures."""
    from app.core.settings import MIN_INTERVAL_S

    if args.delay < MIN_INTERVAL_S:
        raise UsageError(f"top: -d must be at least {MIN_INTERVAL_S} s")
    with context.workstation(sampling=True, interval_s=args.delay) as station, Collector(station) as collector:
        for name in args.guests:
            station.fleet.resolve(name)  # a wrong name is said before anything is printed
        if not (args.json or args.csv):
            context.note_simulated(station)
        code = context.note_missing(station)
        if code:
            return code
        if args.csv:
            context.out.csv_line(KEYS)
        collector.wait_for_rates()
        due_s = time.monotonic()
        printed = 0
        while True:
            _print(args, context, station)
            printed += 1
            if args.count is not None and printed >= args.count:
                return 0
            due_s += args.delay
            collector.wait_for_news(due_s)


def _print(args: argparse.Namespace, context: Context, station: Workstation) -> None:
    now_s = time.time()
    guests = [guest for guest in _chosen(args.guests, station) if guest.state.is_live or args.all or not args.live]
    rows = [(guest, _fresh_rates(station, guest, args.delay)) for guest in guests]
    if args.json:
        for guest, rates in rows:
            context.out.json_line(as_json(now_s, guest, rates))
    elif args.csv:
        for guest, rates in rows:
            context.out.csv_line(_csv_cells(as_json(now_s, guest, rates)))
    else:
        _print_table(args, context, station, rows)
    context.out.flush()


def _chosen(names: Sequence[str], station: Workstation) -> Sequence[Guest]:
    if not names:
        return station.fleet.guests()
    found: dict[object, Guest] = {}
    for name in names:
        try:
            guest = station.fleet.resolve(name)
        except InnkeeperError:  # it was there at the start and is gone now
            continue
        found[guest.ref] = guest
    return list(found.values())


def _fresh_rates(station: Workstation, guest: Guest, interval_s: float) -> Rates:
    """Return the newest rates; nothing known if the guest does not run or its backend has gone silent."""
    rates, sample = station.latest(guest.ref), station.last_sample(guest.ref)
    if rates is None or sample is None or not guest.state.is_live:
        return Rates()
    return rates if time.monotonic() - sample.time_s < 3 * interval_s + 1 else Rates()


def as_json(time_s: float, guest: Guest, rates: Rates) -> dict[str, Any]:
    """Return one line of `top --json`: see docs/cli.md."""
    return {
        "time": time_text(time_s),
        "name": guest.name,
        "backend": guest.ref.backend,
        "kind": str(guest.kind),
        "state": str(guest.state),
        "id": guest.ref.id,
        **{name: _rounded(value) for name, value in asdict(rates).items()},
    }


def _rounded(value: float | None) -> float | None:
    return round(value, 3) if isinstance(value, float) else value


def _csv_cells(record: dict[str, Any]) -> list[object]:
    return [record[key] for key in KEYS]


def _print_table(
    args: argparse.Namespace, context: Context, station: Workstation, rows: Sequence[tuple[Guest, Rates]]
) -> None:
    titles = ("NAME", "KIND", "STATE", *(FIELDS[name].title for name in _SHOWN))
    cells = [
        (
            station.fleet.display_name(guest),
            str(guest.kind),
            state_text(guest),
            *(figure_text(getattr(rates, name), FIELDS[name].unit) for name in _SHOWN),
        )
        for guest, rates in rows
    ]
    lines = table_lines(titles, cells, right=titles[3:], widest=_WIDEST_NAME if context.out.is_terminal else None)
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    if args.count is None and context.out.can_redraw:
        context.out.redraw(now, lines)
        return
    context.out.heading(now)
    for line in lines:
        context.out.line(line)
    context.out.line()
