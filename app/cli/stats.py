"""`inn stats`: guests' figures as `docker stats` has them; `inn top` has more of them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.cli.figures import NONE, bytes_text
from app.cli.output import table_lines
from app.cli.pace import Collector
from backends.errors import InnkeeperError
from backends.metrics import Rates, Sample

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.core.workstation import Workstation
    from backends.model import Guest

_TITLES = ("ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS")
_KEYS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_DELAY_S = 1.0


def stats_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn stats`."""
    parser.add_argument("-a", "--all", action="store_true", help="those that do not run too")
    parser.add_argument("--no-stream", action="store_true", help="print them once and end")
    parser.add_argument("--no-trunc", action="store_true", help="print ids whole")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json: one object a line")
    parser.add_argument("--json", action="store_const", dest="format", const="json", help="the same as --format json")
    parser.add_argument("guests", metavar="GUEST", nargs="*", help="only these guests")


def stats_verb(args: argparse.Namespace, context: Context) -> int:
    """Print the figures."""
    with context.workstation(sampling=True, interval_s=_DELAY_S) as station, Collector(station) as collector:
        for name in args.guests:
            station.fleet.resolve(name)
        code = context.note_missing(station)
        if code:
            return code
        collector.wait_for_rates()
        due_s = time.monotonic()
        while True:
            _print(args, context, [_row(args, station, guest) for guest in _chosen(args, station)])
            if args.no_stream:
                return 0
            due_s += _DELAY_S
            collector.wait_for_news(due_s)


def _chosen(args: argparse.Namespace, station: Workstation) -> Sequence[Guest]:
    found = []
    for name in args.guests:
        try:
            found.append(station.fleet.resolve(name))
        except InnkeeperError:  # it is gone now
            continue
    return found or [guest for guest in station.fleet.guests() if guest.state.is_live or args.all]


def _row(args: argparse.Namespace, station: Workstation, guest: Guest) -> tuple[str, ...]:
    rates = (station.latest(guest.ref) if guest.state.is_live else None) or Rates()
    sample = (station.last_sample(guest.ref) if guest.state.is_live else None) or Sample(0.0)
    return (
        guest.ref.id if args.no_trunc else guest.ref.id[:12],
        station.fleet.display_name(guest),
        _percent(rates.cpu_pct),
        f"{bytes_text(rates.memory_used_bytes or rates.memory_bytes)} / {bytes_text(rates.memory_limit_bytes)}",
        _percent(rates.memory_pct),
        f"{bytes_text(sample.net_rx_bytes)} / {bytes_text(sample.net_tx_bytes)}",
        f"{bytes_text(sample.io_read_bytes)} / {bytes_text(sample.io_write_bytes)}",
        NONE if rates.pids is None else str(rates.pids),
    )


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}%"


def _print(args: argparse.Namespace, context: Context, rows: Sequence[tuple[str, ...]]) -> None:
    if args.format == "json":
        for row in rows:
            context.out.json_line(dict(zip(_KEYS, row, strict=True)))
        return
    lines = table_lines(_TITLES, rows, right=("CPU %", "MEM %", "PIDS"))
    if context.out.can_redraw and not args.no_stream:
        context.out.redraw(time.strftime("%Y-%m-%d %H:%M:%S"), lines)
        return
    for line in lines:
        context.out.line(line)
    context.out.flush()
