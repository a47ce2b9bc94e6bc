"""`inn exec`, `inn attach` and `inn console`: the user's terminal at a program inside a guest."""

from __future__ import annotations

import argparse
import os
import select
import signal
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from app.cli.bridge import Bridge, Waiter
from app.cli.context import capability_of
from app.cli.diagnostics import RUNTIME
from app.cli.logs import line_count
from app.cli.relay import Relay
from app.cli.terminal import (
    CONSOLE_ESCAPE,
    FORWARDED,
    DetachKeys,
    RawTerminal,
    Signals,
    add_detach_keys,
    need_terminal,
    terminal_size,
)
from backends.capabilities import Attaching, Consoling, Executing, Holding, Waiting
from backends.container import ExecSpec
from backends.errors import InnkeeperError, StartFailed
from backends.sessions import Detachable, ExecSession

if TYPE_CHECKING:
    from app.cli.context import Context
    from backends.model import Guest

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def exec_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn exec`."""
    add = parser.add_argument
    add("-i", "--interactive", action="store_true", help="pass our stdin on")
    add("-t", "--tty", action="store_true", help="give it a terminal")
    add("-d", "--detach", action="store_true", help="leave it in the background")
    add("-e", "--env", metavar="KEY[=VALUE]", action="append", default=[], help="set a variable, or pass ours on")
    add("--env-file", metavar="FILE", action="append", default=[], help="take variables from a file, a line each")
    add("-w", "--workdir", metavar="DIR", help="its working directory")
    add("-u", "--user", metavar="USER[:GROUP]", help="run as this user")
    add("--privileged", action="store_true", help="with all capabilities and without the seccomp filter")
    add_detach_keys(parser)
    add("guest", metavar="GUEST", help="the container")
    add("args", metavar="COMMAND", nargs=argparse.REMAINDER, help="program and arguments")


def exec_verb(args: argparse.Namespace, context: Context) -> int:
    """Run a program in a live container and return its exit code."""
    try:
        return _exec(args, context)
    except InnkeeperError as error:
        context.talk.error(error)
        return error.exit_code if isinstance(error, StartFailed) else RUNTIME


def _exec(args: argparse.Namespace, context: Context) -> int:
    from app.cli.run_values import variables
    from backends.errors import UsageError

    command = tuple(args.args[1:] if args.args[:1] == ["--"] else args.args)
    if not command:
        raise UsageError("exec: which program?", hint="See inn exec --help")
    if args.detach and (args.interactive or args.tty):
        raise UsageError("exec: --detach goes with neither -i nor -t: nobody is there to type")
    if args.tty and args.interactive:
        need_terminal("exec")
    spec = ExecSpec(
        command,
        env=variables(args.env, args.env_file),
        cwd=args.workdir,
        user=args.user,
        terminal=args.tty,
        size=terminal_size() if args.tty else None,
        privileged=args.privileged,
        detached=args.detach,
    )
    with context.workstation_for([args.guest]) as station:
        guest = station.fleet.resolve(args.guest)
        backend = station.backend(guest.ref.backend)
        capability_of(backend, Executing, guest, "exec")
        assert isinstance(backend, Executing)
        if args.tty:
            return _with_terminal(args, context, backend.exec(guest.ref, spec))
        context.out.flush()
        if args.detach:
            return _detached(backend, guest, spec)
        stdin = 0 if args.interactive else os.open(os.devnull, os.O_RDONLY)
        relay = Relay(stdin)
        try:
            session = backend.exec(guest.ref, spec, relay.stdio)
        finally:
            relay.handed_over()
            if stdin:
                os.close(stdin)
        code = _with_pipes(session)
        relay.finish()
        return code


def _detached(backend: Executing, guest: Guest, spec: ExecSpec) -> int:
    """Start a program that goes on without us; what it prints goes nowhere."""
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        backend.exec(guest.ref, spec, (nothing, nothing, nothing)).close()
    finally:
        os.close(nothing)
    return 0


def _with_pipes(session: ExecSession) -> int:
    """Wait for a program that has descriptors of ours; a signal to us sends it SIGHUP."""
    try:
        with Signals(*_ENDING) as signals, Waiter(session) as waiter:
            while True:
                ready, _, _ = select.select([signals.fd, waiter.fd], [], [])
                if waiter.fd in ready:
                    return waiter.code()
                for number in signals.take():
                    return 128 + number
    finally:
        session.close()


def _with_terminal(args: argparse.Namespace, context: Context, session: ExecSession) -> int:
    try:
        with Signals(*FORWARDED, signal.SIGWINCH) as signals:
            detach = DetachKeys(args.detach_keys) if isinstance(session, Detachable) else None
            bridge = Bridge(context.out, session, signals, takes_input=args.interactive, detach=detach)
            if not args.interactive:
                return bridge.run()
            with RawTerminal(0):
                code = bridge.run()
        if bridge.has_left and isinstance(session, Detachable):
            session.detach()
            context.talk.note("the program goes on")
        return code
    finally:
        session.close()


def attach_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn attach`."""
    add_detach_keys(parser)
    parser.add_argument("--no-stdin", action="store_true", help="only look on")
    parser.add_argument(
        "--tail", type=line_count, default=0, metavar="LINES", help='first the last lines it printed (0); "all" for all'
    )
    parser.add_argument("guest", metavar="GUEST", help="the container; Ctrl-P Ctrl-Q detaches from one with a terminal")


def attach_verb(args: argparse.Namespace, context: Context) -> int:
    """Follow a live container's output and feed its input; return its exit code when it ends."""
    from app.cli.foreground import Foreground

    with context.workstation_for([args.guest]) as station:
        guest = station.fleet.resolve(args.guest)
        backend = station.backend(guest.ref.backend)
        capability_of(backend, Attaching, guest, "attach")
        inspected = station.ask(f"attach {guest.name}", backend.name, lambda _: backend.inspect(guest.ref))
        has_terminal = _has_terminal(inspected)
        if has_terminal and not args.no_stdin:
            need_terminal("attach")
        foreground = Foreground(
            context,
            backend,
            guest.ref,
            stdin=not args.no_stdin,
            terminal=has_terminal,
            tail=args.tail,
            detach_keys=args.detach_keys,
        )
        # One that is removed at its end stays till we have its last words and its exit code.
        with backend.held(guest.ref) if isinstance(backend, Holding) else nullcontext():
            foreground.run()
            if foreground.is_detached:
                context.talk.note(f"{guest.name} goes on; `inn attach {guest.name}` comes back to it")
                return 0
            code = backend.wait(guest.ref) if isinstance(backend, Waiting) else None
    return 0 if code is None else code


def _has_terminal(inspected: Mapping[str, Any]) -> bool:
    """Return what the container's OCI configuration says."""
    config = inspected.get("config")
    process = config.get("process") if isinstance(config, Mapping) else None
    return isinstance(process, Mapping) and process.get("terminal") is True


def console_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn console`."""
    parser.add_argument("guest", metavar="GUEST", help="the guest; Ctrl-] leaves its console")


def console_verb(args: argparse.Namespace, context: Context) -> int:
    """Connect the terminal to a guest's serial console."""
    with context.workstation_for([args.guest]) as station:
        guest = station.fleet.resolve(args.guest)
        backend = station.backend(guest.ref.backend)
        capability_of(backend, Consoling, guest, "console")
        assert isinstance(backend, Consoling)
        need_terminal("console")
        context.talk.note(f"this is the console of {station.fleet.display_name(guest)}; Ctrl-] leaves it")
        session = station.ask(f"console {guest.name}", backend.name, lambda _: backend.console(guest.ref))
        try:
            with Signals(*FORWARDED, signal.SIGWINCH) as signals, RawTerminal(0):
                Bridge(context.out, session, signals, takes_input=True, detach=DetachKeys(CONSOLE_ESCAPE)).run()
        finally:
            session.close()
    context.talk.say("")
    return 0
