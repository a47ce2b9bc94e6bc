"""`inn inspect`, `inn processes` and `inn trace`: a guest in detail."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from app.cli.context import capability_of
from app.cli.figures import bytes_text
from app.cli.operating import add_guests, step_line
from backends.capabilities import Processes
from backends.errors import InnkeeperError

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.core.workstation import Workstation
    from backends.model import Guest


def inspect_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn inspect`."""
    parser.add_argument("--json", action="store_true", help="this is the only form; taken for the sake of scripts")
    add_guests(parser)


def inspect_verb(args: argparse.Namespace, context: Context) -> int:
    """Print all that is known: one object for one guest, an array for several."""
    found, first_failure = [], 0
    with context.workstation_for(args.guests) as station:
        for name in args.guests:
            try:
                found.append(_inspect(station, station.fleet.resolve(name)))
            except InnkeeperError as error:
                first_failure = context.talk.error(error, after=first_failure)
    if len(args.guests) > 1:
        context.out.json(found)
    elif found:
        context.out.json(found[0])
    return first_failure


def _inspect(station: Workstation, guest: Guest) -> dict[str, Any]:
    ref = guest.ref
    return dict(station.ask(f"inspect {guest.name}", ref.backend, lambda backend: backend.inspect(ref)))


def processes_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn processes`."""
    parser.add_argument("--json", action="store_true", help="print an array of objects")
    parser.add_argument("guest", metavar="GUEST", help="the guest")


def processes_verb(args: argparse.Namespace, context: Context) -> int:
    """List the guest's processes."""
    with context.workstation_for([args.guest]) as station:
        guest = station.fleet.resolve(args.guest)
        backend = station.backend(guest.ref.backend)
        capability_of(backend, Processes, guest, "processes")
        assert isinstance(backend, Processes)
        found = station.ask(f"list processes of {guest.name}", backend.name, lambda _: backend.processes(guest.ref))
    if args.json:
        context.out.json([asdict(process) for process in found])
        return 0
    rows = [
        (
            str(process.pid),
            "–" if process.guest_pid is None else str(process.guest_pid),
            process.user,
            process.state,
            f"{process.cpu_time_s:.1f} s",
            bytes_text(process.rss_bytes),
            str(process.threads),
            process.command,
        )
        for process in found
    ]
    titles = ("PID", "INSIDE", "USER", "STATE", "CPU TIME", "MEM", "THREADS", "COMMAND")
    context.out.table(titles, rows, right=("PID", "INSIDE", "CPU TIME", "MEM", "THREADS"))
    return 0


def trace_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn trace`."""
    parser.add_argument("--json", action="store_true", help="print one object a line")
    parser.add_argument("guest", metavar="GUEST", help="the guest")


def trace_verb(args: argparse.Namespace, context: Context) -> int:
    """Print the recorded steps, each with the shell line that would do it."""
    with context.workstation_for([args.guest]) as station:
        guest = station.fleet.resolve(args.guest)
        what = f"read the trace of {guest.name}"
        records = station.ask(what, guest.ref.backend, lambda backend: backend.trace(guest.ref))
    for record in records:
        if args.json:
            context.out.json_line(asdict(record))
            continue
        context.out.line(step_line(record))
        if record.by_hand:
            context.out.styled(("     $ " + record.by_hand, "dim"))
    if not records and not args.json:
        context.talk.note(f"nothing is recorded of {args.guest}")
    return 0
