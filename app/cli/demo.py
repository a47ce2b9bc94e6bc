"""`inn demo`: guests to look at, from every backend that can show itself; `--remove` leaves no trace."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from app.cli.diagnostics import error_line
from backends import registry
from backends.base import Backend, Demonstrating
from backends.errors import BackendUnavailable, InnkeeperError
from backends.registry import BackendConfig

if TYPE_CHECKING:
    from app.cli.context import Context


class Showing(Backend, Demonstrating, Protocol):
    """A backend that can show itself."""


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
    made = first_failure = 0
    for backend, closed in _showing(context.settings.backends, context):
        try:
            made += len(backend.demo_create(context.talk.say))
        except InnkeeperError as error:  # without libvirt there are still containers to look at
            first_failure = context.talk.error(_cause(error, closed), after=first_failure)
        finally:
            backend.close()
    if not made and not first_failure:
        context.talk.note(f"no backend in use has guests to show: {', '.join(context.settings.backends)}")
    return made, first_failure


def _remove(context: Context) -> int:
    first_failure = 0
    # The other way round: the first backend made the folder that the others have theirs in.
    for backend, closed in _showing(tuple(reversed(context.settings.backends)), context):
        try:
            backend.demo_remove(context.talk.say)
        except BackendUnavailable as error:  # nothing of ours can run in what is not there
            context.talk.note(f"{backend.title} left alone: {error_line(_cause(error, closed))}")
        except InnkeeperError as error:
            first_failure = context.talk.error(error, after=first_failure)
        finally:
            backend.close()
    return first_failure


def _cause(error: InnkeeperError, closed: BackendUnavailable | None) -> InnkeeperError:
    """Return what stood in the way of opening the backend, if the error is only the echo of that."""
    return closed if closed is not None and isinstance(error, BackendUnavailable) and not error.hint else error


def _showing(names: Sequence[str], context: Context) -> Iterator[tuple[Showing, BackendUnavailable | None]]:
    """Yield the backends that can show themselves, opened where they can be, with what stood in the way of that."""
    settings = context.settings
    for name in names:
        config = BackendConfig(settings.paths.state_dir, settings.paths.run_dir, settings.options_for(name))
        try:
            backend = registry.make(name, config)
        except (InnkeeperError, ImportError) as error:
            context.talk.note(f"{name} left out: {error}")
            continue
        if isinstance(backend, Demonstrating):
            closed: BackendUnavailable | None = None
            try:
                backend.open()
            except BackendUnavailable as error:  # perhaps it can start what is missing
                closed = error
            yield cast(Showing, backend), closed
