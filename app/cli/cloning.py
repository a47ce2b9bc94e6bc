"""`inn clone`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from app.cli.context import capability_of
from app.cli.operating import add_trace_option, tracing
from app.cli.progress import follow
from backends.assets import Cloning
from backends.model import Guest

if TYPE_CHECKING:
    from app.cli.context import Context


def clone_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn clone`."""
    parser.add_argument("guest", metavar="GUEST", help="the guest to make another like")
    parser.add_argument("name", metavar="NAME", nargs="?", help="default: the guest's with a number")
    parser.add_argument("--snapshot", metavar="SNAPSHOT", help="from the files of this snapshot, not of now")
    add_trace_option(parser)


def clone_verb(args: argparse.Namespace, context: Context) -> int:
    """Make a guest like another and print its name."""
    with context.workstation_for([args.guest]) as station, tracing(context, station, args.trace):
        guest = station.fleet.resolve(args.guest)
        capability_of(station.backend(guest.ref.backend), Cloning, guest, "clone")
        made = follow(context, station, "guest.clone", guest.ref, name=args.name, snapshot=args.snapshot)
        if isinstance(made, Guest):
            context.out.line(made.name)
    return 0
