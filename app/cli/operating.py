"""Commands on one or several guests: each is tried, each error is one line, the first one gives the exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backends.errors import InnkeeperError, TimedOut, WrongState
from backends.events import Event, StepDone

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.core.operations import Operation
    from app.core.workstation import Workstation
    from backends.model import Guest
    from backends.trace import StepRecord

_LONG_S = 15.0
"""More than the time a container is given to end by itself."""

Arguments = Callable[["Workstation", "Guest"], Mapping[str, object]]
"""Makes the arguments of a command for one guest."""


def add_trace_option(parser: argparse.ArgumentParser) -> None:
    """Add --trace."""
    parser.add_argument("--trace", action="store_true", help="print each step to stderr as it happens")


def add_guests(parser: argparse.ArgumentParser) -> None:
    """Add one or more GUESTs."""
    parser.add_argument("guests", metavar="GUEST", nargs="+", help="name, backend/name or beginning of an id")


def on_guests(
    context: Context,
    command: str,
    names: Sequence[str],
    *,
    arguments: Arguments = lambda station, guest: {},
    done: Callable[[str, object], None] | None = None,
    trace: bool = False,
    is_done: Callable[[Guest], bool] = lambda guest: False,
) -> int:
    """Do a command to all the guests, at once as far as their backends allow; print each name when it is done.

    Nothing is done to those of which `is_done` says that they are as the command would have them.
    """
    first_failure = 0
    with context.workstation_for(names) as station, tracing(context, station, trace):
        for name, begun in [
            (name, _begin(station, command, name, arguments, is_done)) for name in dict.fromkeys(names)
        ]:
            try:
                if isinstance(begun, InnkeeperError):
                    raise begun
                result = None if begun is None else wait_for(context, begun)
            except InnkeeperError as error:
                if not (isinstance(error, WrongState) and _is_so_now(station, name, is_done)):
                    first_failure = context.talk.error(error, after=first_failure)
                    continue
                result = None
            (done or (lambda name, result: context.out.line(name)))(name, result)
            context.out.flush()
    return first_failure


def _is_so_now(station: Workstation, name: str, is_done: Callable[[Guest], bool]) -> bool:
    """Say whether somebody else has brought about meanwhile what was wanted."""
    station.refresh()
    try:
        return is_done(station.fleet.resolve(name))
    except InnkeeperError:
        return False


def wait_for(context: Context, operation: Operation) -> object:
    """Return the operation's result or raise its error; while it takes long, say so once: it may hang."""
    try:
        return operation.wait(_LONG_S)
    except TimedOut:
        if not operation.is_done:
            context.talk.note(f"{operation.title}: not done after {_LONG_S:g} s, still waiting; Ctrl-C leaves it alone")
    return operation.wait()


def _begin(
    station: Workstation, command: str, name: str, arguments: Arguments, is_done: Callable[[Guest], bool]
) -> Operation | InnkeeperError | None:
    try:
        guest = station.fleet.resolve(name)
        if is_done(guest):
            return None
        return station.submit(command, guest.ref, **arguments(station, guest))
    except InnkeeperError as error:
        return error


@contextmanager
def tracing(context: Context, station: Workstation, wanted: bool) -> Iterator[None]:
    """Print the steps of all operations to stderr as they happen, if wanted."""
    if not wanted:
        yield
        return

    def listen(event: Event) -> None:
        if isinstance(event, StepDone):
            context.talk.say(step_line(event.record))

    stop = station.subscribe(listen)
    try:
        yield
    finally:
        stop()


def step_line(record: StepRecord) -> str:
    """Return one line for a step: number, process, how long, what, and the error if it failed."""
    took = f"{record.duration_s * 1000:.1f} ms"
    failed = f"  FAILED: {record.error}" if record.error else ""
    return f"{record.sequence:>3}  {record.process:<10}  {took:>9}  {record.text}{failed}"
