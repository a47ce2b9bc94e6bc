"""`inn create` and `inn run`: containers from images.

What comes after IMAGE belongs to the container. `run` in the foreground is create, start, follow, wait; its
exit code is the program's, or 125, 126, 127 as docker has them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.cli.diagnostics import RUNTIME
from app.cli.limiting import add_limit_options, given_limits
from app.cli.operating import add_trace_option, tracing, wait_for
from app.cli.terminal import need_terminal, terminal_size
from backends.base import Creating, Removing, Waiting
from backends.container import ContainerSpec
from backends.errors import InnkeeperError, NotFound, StartFailed, UsageError
from backends.model import Guest, Limits
from backends.trace import Recorder

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.core.workstation import Workstation
    from backends.base import Backend


def create_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn create`."""
    _add_spec_options(parser)


def run_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn run`."""
    parser.add_argument("-d", "--detach", action="store_true", help="leave it in the background and print its id")
    _add_spec_options(parser)


def _add_spec_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-i", "--interactive", action="store_true", help="keep its stdin open")
    add("-t", "--tty", action="store_true", help="give it a terminal")
    add("--rm", action="store_true", help="remove it when it has ended")
    add("--name", metavar="NAME", help="its name (default: one is made up)")
    add("-e", "--env", metavar="KEY[=VALUE]", action="append", default=[], help="set a variable, or pass ours on")
    add("-w", "--workdir", metavar="DIR", help="its working directory")
    add("-u", "--user", metavar="USER[:GROUP]", help="run as this user")
    add("--hostname", metavar="NAME", help="its host name (default: its name)")
    add("-v", "--volume", metavar="HOST:GUEST[:ro]", action="append", default=[], help="show it a folder of the host")
    add("--read-only", action="store_true", help="its root file system cannot be written")
    add("--network", choices=("bridge", "none"), default="bridge", help="bridge (the default) or none")
    add("-l", "--label", metavar="KEY[=VALUE]", action="append", default=[], help="put a label on it")
    add("--stop-signal", metavar="SIGNAL", default="SIGTERM", help="what `inn stop` sends first (SIGTERM)")
    add("--explain", action="store_true", help="print what would be done, step by step, and do none of it")
    add("--json", action="store_true", help="with --explain: print an array of objects")
    add_trace_option(parser)
    add_limit_options(parser)
    add("image", metavar="IMAGE", help="an image (`inn image ls`); `host` is this machine's own /usr, read-only")
    add("args", metavar="COMMAND", nargs=argparse.REMAINDER, help="program and arguments (default: the image's own)")


def spec_of(args: argparse.Namespace) -> ContainerSpec:
    """Return what the options ask for. Raises UsageError."""
    from app.core.commands import parse_signal
    from app.core.limits import parse_changes

    parse_signal(args.stop_signal)
    command = args.args[1:] if args.args[:1] == ["--"] else args.args
    return ContainerSpec(
        image=args.image,
        args=tuple(command),
        name=args.name,
        limits=Limits().with_changes(parse_changes(given_limits(args))),
        env=variables(args.env),
        cwd=args.workdir,
        user=args.user,
        hostname=args.hostname,
        terminal=args.tty,
        stdin=args.interactive,
        read_only=args.read_only,
        volumes=tuple(args.volume),
        network=args.network,
        labels=dict(_label(text) for text in args.label),
        stop_signal=args.stop_signal,
        size=terminal_size() if args.tty else None,
        # In the foreground we remove it ourselves, when its output is copied to the end.
        auto_remove=args.rm and getattr(args, "detach", True),
    )


def variables(texts: Sequence[str]) -> tuple[str, ...]:
    """Return KEY=VALUE of each; KEY alone is taken from our environment, and left out if it is not there."""
    return tuple(
        text if "=" in text else f"{text}={os.environ[text]}" for text in texts if "=" in text or text in os.environ
    )


def _label(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if not key:
        raise UsageError(f"--label: {text!r} has no key: expected KEY or KEY=VALUE")
    return key, value


def create_verb(args: argparse.Namespace, context: Context) -> int:
    """Create a container and print its id."""
    spec = spec_of(args)
    with context.workstation_with(Creating, "create containers") as (station, backend):
        if args.explain:
            return _explain(args, context, backend, spec)
        with tracing(context, station, args.trace):
            context.out.line(_create(context, station, backend, spec).ref.id)
    return 0


def run_verb(args: argparse.Namespace, context: Context) -> int:
    """Create a container and run it; return its exit code when it ran in the foreground."""
    try:
        return _run(args, context)
    except InnkeeperError as error:
        context.talk.error(error)
        return error.exit_code if isinstance(error, StartFailed) else RUNTIME


def _run(args: argparse.Namespace, context: Context) -> int:
    spec = spec_of(args)
    with context.workstation_with(Creating, "run containers") as (station, backend):
        if args.explain:
            return _explain(args, context, backend, spec)
        if args.tty and args.interactive and not args.detach:
            need_terminal("run")
        with tracing(context, station, args.trace):
            guest = _create(context, station, backend, spec)
            try:
                wait_for(context, station.submit("guest.start", guest.ref))
            except BaseException:
                if args.rm:
                    _remove(context, backend, guest)
                raise
            if args.detach:
                context.out.line(guest.ref.id)
                return 0
            return _follow(args, context, backend, guest)


def _create(context: Context, station: Workstation, backend: Backend, spec: ContainerSpec) -> Guest:
    guest = wait_for(context, station.submit("guest.create", backend=backend.name, spec=spec))
    assert isinstance(guest, Guest)
    return guest


def _follow(args: argparse.Namespace, context: Context, backend: Backend, guest: Guest) -> int:
    from app.cli.foreground import Foreground

    foreground = Foreground(context, backend, guest.ref, stdin=args.interactive, terminal=args.tty)
    try:
        foreground.run()
        if foreground.is_detached:
            context.talk.note(f"{guest.name} goes on; `inn attach {guest.name}` comes back to it")
            return 0
        if not isinstance(backend, Waiting):
            return 0
        code = backend.wait(guest.ref)
        return 0 if code is None else code
    finally:
        if args.rm and not foreground.is_detached:
            _remove(context, backend, guest)


def _remove(context: Context, backend: Backend, guest: Guest) -> None:
    if isinstance(backend, Removing):
        try:
            backend.remove(guest.ref, Recorder("host"), force=True)
        except NotFound:  # somebody was quicker
            return
        except InnkeeperError as error:  # the program's exit code is still the answer
            context.talk.error(error)


def _explain(args: argparse.Namespace, context: Context, backend: Backend, spec: ContainerSpec) -> int:
    assert isinstance(backend, Creating)
    plan = backend.explain(spec)
    if args.json:
        context.out.json(
            [
                {
                    "sequence": number,
                    "process": process,
                    "kind": step.kind,
                    "text": step.describe(),
                    "by_hand": step.by_hand(),
                }
                for number, (process, step) in enumerate(plan, 1)
            ]
        )
        return 0
    for number, (process, step) in enumerate(plan, 1):
        context.out.line(f"{number:>3}  {process:<10}  {step.describe()}")
        if by_hand := step.by_hand():
            context.out.styled(("     $ " + by_hand, "dim"))
    return 0
