"""The verbs that are one command on guests: start, stop, restart, kill, pause, resume, rename, rm; and wait.

Their options come from `app.core.commands`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from app.cli.operating import add_guests, add_trace_option, on_guests
from backends.errors import InnkeeperError, Unsupported

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.core.command import Argument
    from backends.model import Guest

_SHORT = {"--timeout": ("-t", "--time"), "--signal": ("-s",), "--force": ("-f",)}
_AS_WANTED = {"guest.start": ("running",), "guest.stop": ("created", "stopped")}
"""States in which there is nothing left to do; no error, as with docker."""

_METAVARS = {"--timeout": "SECONDS", "--signal": "SIGNAL"}


def declare(command: str, parser: argparse.ArgumentParser) -> None:
    """Add the guests and the command's own arguments."""
    from app.core.commands import COMMANDS

    for argument in COMMANDS[command].arguments:
        if argument.option:
            _add_option(parser, argument)
    add_trace_option(parser)
    add_guests(parser)


def _add_option(parser: argparse.ArgumentParser, argument: Argument) -> None:
    names = (*_SHORT.get(argument.option, ()), argument.option)
    text = argument.help[:1].lower() + argument.help[1:].rstrip(".")
    if argument.default is False:
        parser.add_argument(*names, dest=argument.name, action="store_true", help=text)
        return
    parser.add_argument(
        *names,
        dest=argument.name,
        type=argument.type,
        default=argument.default,
        metavar=_METAVARS.get(argument.option),
        help=text,
    )


def given(command: str, args: argparse.Namespace) -> Mapping[str, object]:
    """Return the command's own arguments as they were given."""
    from app.core.commands import COMMANDS

    return {argument.name: getattr(args, argument.name) for argument in COMMANDS[command].arguments if argument.option}


def perform(command: str, args: argparse.Namespace, context: Context) -> int:
    """Do the command to all the guests that were named."""
    arguments = given(command, args)
    wanted = _AS_WANTED.get(command, ())
    return on_guests(
        context,
        command,
        args.guests,
        arguments=lambda station, guest: arguments,
        trace=args.trace,
        is_done=lambda guest: guest.state.value in wanted,
    )


def start_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn start`."""
    declare("guest.start", parser)


def start_verb(args: argparse.Namespace, context: Context) -> int:
    """Start guests."""
    return perform("guest.start", args, context)


def stop_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn stop`."""
    declare("guest.stop", parser)


def stop_verb(args: argparse.Namespace, context: Context) -> int:
    """Stop guests."""
    return perform("guest.stop", args, context)


def restart_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn restart`."""
    declare("guest.restart", parser)


def restart_verb(args: argparse.Namespace, context: Context) -> int:
    """Restart guests."""
    return perform("guest.restart", args, context)


def kill_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn kill`."""
    declare("guest.kill", parser)


def kill_verb(args: argparse.Namespace, context: Context) -> int:
    """Send a signal to guests."""
    return perform("guest.kill", args, context)


def pause_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn pause`."""
    declare("guest.pause", parser)


def pause_verb(args: argparse.Namespace, context: Context) -> int:
    """Freeze guests."""
    return perform("guest.pause", args, context)


def resume_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn resume`."""
    declare("guest.resume", parser)


def resume_verb(args: argparse.Namespace, context: Context) -> int:
    """Thaw guests."""
    return perform("guest.resume", args, context)


def rm_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn rm`."""
    declare("guest.remove", parser)


def rm_verb(args: argparse.Namespace, context: Context) -> int:
    """Remove guests."""
    return perform("guest.remove", args, context)


def rename_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn rename`."""
    add_trace_option(parser)
    parser.add_argument("guest", metavar="GUEST", help="the guest")
    parser.add_argument("name", metavar="NAME", help="its new name")


def rename_verb(args: argparse.Namespace, context: Context) -> int:
    """Give a guest another name."""
    return on_guests(
        context,
        "guest.rename",
        [args.guest],
        arguments=lambda station, guest: {"name": args.name},
        trace=args.trace,
        done=lambda name, result: context.out.line(args.name),
    )


def wait_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn wait`."""
    from app.core.units import parse_duration

    parser.add_argument("-t", "--timeout", type=parse_duration, metavar="SECONDS", help="give up after this time")
    parser.add_argument("--json", action="store_true", help="print one object a line")
    add_guests(parser)


def wait_verb(args: argparse.Namespace, context: Context) -> int:
    """Wait for the guests, one after the other, and print their exit codes."""
    from backends.capabilities import Waiting

    first_failure = 0
    with context.workstation_for(args.guests) as station:
        for name in args.guests:
            try:
                guest = station.fleet.resolve(name)
                backend = station.backend(guest.ref.backend)
                if not isinstance(backend, Waiting):
                    raise Unsupported(f"cannot wait for {name}: {backend.title} has no such thing")
                _print_code(args, context, guest, backend.wait(guest.ref, timeout_s=args.timeout))
            except InnkeeperError as error:
                first_failure = context.talk.error(error, after=first_failure)
    return first_failure


def _print_code(args: argparse.Namespace, context: Context, guest: Guest, code: int | None) -> None:
    if args.json:
        context.out.json_line({"id": guest.ref.id, "name": guest.name, "backend": guest.ref.backend, "exit_code": code})
    else:
        context.out.line("-" if code is None else str(code))
        context.out.flush()
