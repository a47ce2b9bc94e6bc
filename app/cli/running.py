"""`inn create` and `inn run`: containers from images.

What comes after IMAGE belongs to the container. `run` in the foreground is create, start, follow, wait; its
exit code is the program's, or 125, 126, 127 as docker has them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from app.cli.diagnostics import RUNTIME
from app.cli.limiting import given_limits
from app.cli.operating import tracing, wait_for
from app.cli.run_options import add_create_options
from app.cli.terminal import add_detach_keys, need_terminal, terminal_size
from backends.assets import Transferring
from backends.capabilities import Creating, Holding, Removing, Waiting
from backends.container import ContainerSpec
from backends.errors import InnkeeperError, NoSuchImage, NotFound, StartFailed, UsageError, os_error_text
from backends.model import Guest, GuestRef, Limits
from backends.trace import Recorder

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.cli.foreground import Foreground
    from app.core.workstation import Workstation
    from backends.base import Backend


def create_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn create`."""
    add_create_options(parser)


def run_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn run`."""
    add_detach_keys(parser)
    parser.add_argument("-d", "--detach", action="store_true", help="leave it in the background and print its id")
    add_create_options(parser)


def spec_of(args: argparse.Namespace) -> ContainerSpec:
    """Return what the options ask for. Raises UsageError."""
    from app.cli import run_values as values
    from app.core.commands import parse_signal
    from app.core.limits import parse_changes

    if args.stop_signal:
        parse_signal(args.stop_signal)
    if args.json and not args.explain:
        raise UsageError("--json goes with --explain: the container's output is its own")
    if args.rm and args.restart != "no":
        raise UsageError("--rm and --restart do not go together: what is removed cannot start again")
    command = args.args[1:] if args.args[:1] == ["--"] else args.args
    return ContainerSpec(
        image=args.image,
        args=tuple(command),
        name=args.name,
        limits=Limits().with_changes(parse_changes(given_limits(args))),
        env=values.variables(args.env, args.env_file),
        cwd=args.workdir,
        user=args.user,
        hostname=args.hostname,
        terminal=args.tty,
        stdin=args.interactive,
        read_only=args.read_only,
        volumes=tuple(values.volume(text) for text in args.volume),
        mounts=tuple(args.mount),
        network=args.network[0] if args.network else "bridge",
        networks=tuple(args.network[1:]),
        ip=args.ip,
        ip6=args.ip6,
        mac=args.mac_address,
        aliases=tuple(args.network_alias),
        labels=values.labels("--label", args.label),
        stop_signal=args.stop_signal,
        size=terminal_size() if args.tty else None,
        auto_remove=args.rm,
        entrypoint=values.entry_point(args.entrypoint),
        stop_timeout_s=None if args.stop_timeout is None else values.duration("--stop-timeout", args.stop_timeout),
        privileged=args.privileged,
        cap_add=tuple(args.cap_add),
        cap_drop=tuple(args.cap_drop),
        security_opts=tuple(args.security_opt),
        devices=tuple(args.device),
        device_rules=tuple(args.device_cgroup_rule),
        ulimits=tuple(args.ulimit),
        sysctls=tuple(args.sysctl),
        groups=tuple(args.group_add),
        oom_score_adj=args.oom_score_adj,
        userns=args.userns,
        pid_mode=_shared(args.pid),
        ipc_mode=_shared(args.ipc),
        uts_mode=_shared(args.uts),
        cgroupns_mode=_shared(args.cgroupns),
        tmpfs=tuple(args.tmpfs),
        shm_bytes=values.size("--shm-size", args.shm_size),
        init=args.init,
        secrets=tuple(values.secret(text) for text in args.secret),
        hosts=tuple(args.add_host),
        dns=tuple(args.dns),
        dns_search=tuple(args.dns_search),
        dns_options=tuple(args.dns_option),
        expose=tuple(args.expose),
        publish=tuple(args.publish),
        publish_all=args.publish_all,
        restart=values.restart_policy(args.restart),
        health=values.health_check(args),
        log=values.log_limits(args.log_opt),
        driver=args.driver,
        annotations=values.labels("--annotation", args.annotation),
    )


def _shared(mode: str) -> str:
    return "host" if mode == "host" else ""


def create_verb(args: argparse.Namespace, context: Context) -> int:
    """Create a container and print its id."""
    spec = spec_of(args)
    with context.workstation_with(Creating, "create containers") as (station, backend):
        if args.explain:
            return _explain(args, context, backend, spec)
        with tracing(context, station, args.trace), _id_file(args.cidfile) as write_id:
            guest = _create(args, context, station, backend, spec)
            write_id(guest.ref.id)
            context.out.line(guest.ref.id)
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
            with _id_file(args.cidfile) as write_id:
                guest = _create(args, context, station, backend, spec)
                write_id(guest.ref.id)
            # Its keeper removes it, also when we are killed; till then we want its output and exit code.
            is_held = args.rm and not args.detach
            with backend.held(guest.ref) if is_held and isinstance(backend, Holding) else nullcontext():
                return _start(args, context, station, backend, guest)


def _start(args: argparse.Namespace, context: Context, station: Workstation, backend: Backend, guest: Guest) -> int:
    foreground = None if args.detach else _foreground(args, context, backend, guest)
    try:
        wait_for(context, station.submit("guest.start", guest.ref))
    except BaseException:
        if args.rm:
            _remove(context, backend, guest)
        raise
    if foreground is None:
        context.out.line(guest.ref.id)
        return 0
    return _follow(args, context, backend, guest, foreground)


def follow_started(words: Sequence[str], guest_id: str, ready: Callable[[], None], end: Callable[[], int]) -> int:
    """Go on with a container that app.cli.quick has started.

    `ready` is told when its output needs to be kept by nobody else any more; `end` waits for its exit code.
    """
    from app.cli.foreground import Foreground
    from app.cli.main import context_of, ending_well

    def follow() -> int:
        context = context_of(words)
        with context.workstation_with(Creating, "run containers") as (_, backend):
            ref = GuestRef(backend.name, guest_id)
            foreground = Foreground(context, backend, ref, stdin=False, terminal=False, whole=True)
            ready()
            foreground.run()
        return end()

    return ending_well(follow, failed=RUNTIME)


@contextmanager
def _id_file(path: str | None) -> Iterator[Callable[[str], None]]:
    """Yield what writes the id to a new file; the file goes again if nothing is made. Raises UsageError."""
    if path is None:
        yield lambda _: None
        return
    from pathlib import Path

    place = Path(path)
    try:
        place.open("x").close()
    except OSError as error:
        raise UsageError(f"--cidfile: {os_error_text(error)}") from error
    written = False

    def write(guest_id: str) -> None:
        nonlocal written
        written = bool(place.write_text(guest_id))

    try:
        yield write
    finally:
        if not written:
            place.unlink(missing_ok=True)


def _create(
    args: argparse.Namespace, context: Context, station: Workstation, backend: Backend, spec: ContainerSpec
) -> Guest:
    """Create it, and fetch its image before if it is to be fetched. What is fetched stays, whatever comes of it."""
    if args.pull == "always":
        _fetch(args, context, station, backend, spec.image)
    try:
        return _create_from_what_is_here(context, station, backend, spec)
    except NoSuchImage:  # nothing has been made
        if args.pull != "missing" or not isinstance(backend, Transferring):
            raise
    _fetch(args, context, station, backend, spec.image)
    return _create_from_what_is_here(context, station, backend, spec)


def _create_from_what_is_here(context: Context, station: Workstation, backend: Backend, spec: ContainerSpec) -> Guest:
    guest = wait_for(context, station.submit("guest.create", backend=backend.name, spec=spec))
    assert isinstance(guest, Guest)
    return guest


def _fetch(args: argparse.Namespace, context: Context, station: Workstation, backend: Backend, name: str) -> None:
    from app.cli.transfers import pull

    try:
        pull(args, context, station, backend, name)
    except InnkeeperError as error:
        if args.pull == "missing":
            error.add_note(f"there is no image {name} here")
        raise


def _foreground(args: argparse.Namespace, context: Context, backend: Backend, guest: Guest) -> Foreground:
    from app.cli.foreground import Foreground

    keys = args.detach_keys
    return Foreground(
        context, backend, guest.ref, stdin=args.interactive, terminal=args.tty, whole=True, detach_keys=keys
    )


def _follow(args: argparse.Namespace, context: Context, backend: Backend, guest: Guest, foreground: Foreground) -> int:
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
