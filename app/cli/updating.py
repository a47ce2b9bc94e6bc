"""`inn update`: limits as with `inn limit`, and when a guest is started again by itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from app.cli.limiting import add_limit_options, given_limits, limit_verb
from app.cli.operating import add_guests, add_trace_option, on_guests
from backends.errors import UsageError

if TYPE_CHECKING:
    from app.cli.context import Context


def update_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn update`."""
    parser.add_argument(
        "--restart", metavar="POLICY", help="no, on-failure, on-failure:N, always or unless-stopped", default=None
    )
    parser.add_argument("--json", action="store_true", help="print the limits then in force, one object a line")
    add_limit_options(parser)
    add_trace_option(parser)
    add_guests(parser)


def update_verb(args: argparse.Namespace, context: Context) -> int:
    """Change limits and the restart policy."""
    from backends.container import RestartPolicy

    has_limits = bool(given_limits(args))
    if args.restart is None and not has_limits:
        raise UsageError("update: what is to be changed?", hint="See inn update --help")
    if args.restart is not None:
        policy = RestartPolicy.parse(args.restart)
        done = None if not has_limits else (lambda name, result: None)  # each name is printed once
        code = on_guests(
            context,
            "guest.update",
            args.guests,
            arguments=lambda station, guest: {"restart": policy},
            done=done,
            trace=args.trace,
        )
        if code or not has_limits:
            return code
    return limit_verb(args, context)
