"""`inn demo`: guests to look at, from every backend that can show itself; `--remove` leaves no trace."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from backends.base import Demonstrating
from backends.errors import InnkeeperError

if TYPE_CHECKING:
    from app.cli.context import Context


def demo_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn demo`."""
    parser.add_argument("--remove", action="store_true", help="remove the demo guests and all that came with them")
    parser.add_argument("--no-screen", action="store_true", help="do not open the screen afterwards")


def demo_verb(args: argparse.Namespace, context: Context) -> int:
    """Make the demo guests and open the screen, or remove them."""
    if args.remove:
        return _remove(context)
    made, first_error = _create(context)
    if not made:
        return first_error or 1
    if args.no_screen or not (sys.stdin.isatty() and sys.stdout.isatty()):
        context.talk.note("to see them move: inn top -n 3 --json, or inn in a terminal; to end them: inn demo --remove")
        return 0
    from app.cli.main import open_screen

    return open_screen(context.settings)


def _create(context: Context) -> tuple[int, int]:
    """Return how many guests there are now, and the exit code of the first failure."""
    from app.core.workstation import Workstation

    made = first_failure = 0
    with Workstation(context.settings) as station:
        for name in context.settings.backends:
            try:
                backend = station.backend(name)
                if isinstance(backend, Demonstrating):
                    made += len(backend.demo_create(context.talk.say))
            except InnkeeperError as error:  # without libvirt there are still containers to look at
                first_failure = context.talk.error(error, after=first_failure)
    if not made and not first_failure:
        context.talk.note(f"no backend in use has guests to show: {', '.join(context.settings.backends)}")
    return made, first_failure


def _remove(context: Context) -> int:
    from app.core.workstation import Workstation

    first_failure = 0
    with Workstation(context.settings) as station:
        for name in context.settings.backends:
            try:
                backend = station.backend(name)
            except InnkeeperError as error:  # nothing of ours can be in what cannot be reached
                context.talk.note(f"{name} left alone: {error.message}")
                continue
            if not isinstance(backend, Demonstrating):
                continue
            try:
                backend.demo_remove(context.talk.say)
            except InnkeeperError as error:
                first_failure = context.talk.error(error, after=first_failure)
    return first_failure

