"""`inn pull|push|login|logout`, which are `inn image pull|push|login|logout` too."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from app.cli.asking import asked
from app.cli.operating import add_trace_option, tracing
from backends.assets import LoggingIn, Transferring
from backends.errors import InnkeeperError, UsageError
from backends.image import Image, TransferOptions

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.core.workstation import Workstation
    from backends.base import Backend

DEFAULT_REGISTRY = "docker.io"


def add_transfer_options(parser: argparse.ArgumentParser) -> None:
    """Declare how registries are talked to."""
    parser.add_argument("--plain-http", action="store_true", help="talk to the registry without TLS")
    parser.add_argument(
        "--tls-verify", metavar="BOOL", nargs="?", const="true", default="true",
        help="false: believe any certificate (default: true)",
    )  # fmt: skip
    parser.add_argument("--ca-file", metavar="FILE", default="", help="certificates to trust too, PEM")
    parser.add_argument(
        "--authfile", metavar="FILE", default="", help="where credentials are, in the format of docker's config.json"
    )


def add_platform_option(parser: argparse.ArgumentParser) -> None:
    """Declare which of an image's variants is wanted."""
    parser.add_argument("--platform", metavar="OS/ARCH[/VARIANT]", default="", help="default: this host's")


def transfer_options(args: argparse.Namespace, **more: Any) -> TransferOptions:
    """Return what the options ask for. Raises UsageError."""
    words = {"true": True, "1": True, "false": False, "0": False}
    verify = words.get(args.tls_verify.lower())
    if verify is None:
        raise UsageError(f"--tls-verify: {args.tls_verify!r} is neither true nor false")
    return TransferOptions(
        platform=getattr(args, "platform", ""),
        plain_http=args.plain_http,
        tls_verify=verify,
        ca_file=args.ca_file,
        auth_file=args.authfile,
        compression=getattr(args, "compression", "gzip"),
        all_platforms=getattr(args, "all_platforms", False),
        **more,
    )


def pull_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn pull`."""
    parser.add_argument("names", metavar="IMAGE", nargs="+", help="[REGISTRY/]REPOSITORY[:TAG][@DIGEST]")
    add_platform_option(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    add_transfer_options(parser)
    add_trace_option(parser)


def push_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn push`."""
    parser.add_argument("names", metavar="IMAGE", nargs="+", help="its name says where it goes")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    parser.add_argument(
        "--compression", choices=("gzip", "zstd"), default="gzip", help="of layers that are not compressed yet"
    )
    parser.add_argument(
        "--all-platforms", action="store_true", help="an index of all platforms of it that were fetched, not one image"
    )
    add_transfer_options(parser)
    add_trace_option(parser)


def login_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn login`."""
    parser.add_argument("registry", metavar="REGISTRY", nargs="?", default=DEFAULT_REGISTRY)
    parser.add_argument("-u", "--username", metavar="NAME")
    parser.add_argument("--password-stdin", action="store_true", help="read the password from stdin")
    add_transfer_options(parser)


def logout_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn logout`."""
    parser.add_argument("registry", metavar="REGISTRY", nargs="?", default=DEFAULT_REGISTRY)
    parser.add_argument("--authfile", metavar="FILE", default="", help="where credentials are")


ACTS = {
    "pull": (pull_verb_arguments, "fetch images from their registries"),
    "push": (push_verb_arguments, "send images to their registries"),
    "login": (login_verb_arguments, "keep credentials for a registry"),
    "logout": (logout_verb_arguments, "forget the credentials for a registry"),
}


def add_transfer_acts(acts: Any) -> None:
    """Declare them below `inn image`; `acts` is what add_subparsers() returned."""
    for name, (declare, text) in ACTS.items():
        declare(acts.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}."))


def transfer_act(args: argparse.Namespace, context: Context) -> int:
    """Do the act of `inn image` that is one of ACTS."""
    return {"pull": pull_verb, "push": push_verb, "login": login_verb, "logout": logout_verb}[args.act](args, context)


def pull_verb(args: argparse.Namespace, context: Context) -> int:
    """Fetch images and print their names."""
    return _each(
        args, context, "pull images", lambda station, backend, name: pull(args, context, station, backend, name)
    )


def pull(args: argparse.Namespace, context: Context, station: Workstation, backend: Backend, name: str) -> str:
    """Fetch an image, showing progress; return its name."""
    from app.cli.progress import follow

    image = follow(
        context, station, "image.pull", quiet=getattr(args, "quiet", False), plain=args.trace,
        backend=backend.name, name=name, options=transfer_options(args),
    )  # fmt: skip
    return image.name if isinstance(image, Image) else name


def push_verb(args: argparse.Namespace, context: Context) -> int:
    """Send images and print each with the digest that the registry knows it by."""
    from app.cli.progress import follow

    def push(station: Workstation, backend: Backend, name: str) -> str:
        digest = follow(
            context, station, "image.push", quiet=args.quiet, plain=args.trace,
            backend=backend.name, name=name, options=transfer_options(args),
        )  # fmt: skip
        return f"{name}@{digest}"

    return _each(args, context, "push images", push)


def _each(args: argparse.Namespace, context: Context, what: str, act: Any) -> int:
    first_failure = 0
    transfer_options(args)  # what makes no sense is said before anything is tried
    with (
        context.workstation_with(Transferring, what) as (station, backend),
        tracing(context, station, args.trace),
    ):
        for name in dict.fromkeys(args.names):
            try:
                context.out.line(act(station, backend, name))
                context.out.flush()
            except InnkeeperError as error:
                first_failure = context.talk.error(error, after=first_failure)
    return first_failure


def login_verb(args: argparse.Namespace, context: Context) -> int:
    """Ask for what is missing, check it at the registry and keep it."""
    credentials = _credentials(args)
    with context.workstation_with(LoggingIn, "log in to registries") as (_, backend):
        assert isinstance(backend, LoggingIn)
        place = backend.registry_login(args.registry, transfer_options(args, credentials=credentials))
        context.talk.note(f"{args.registry}: logged in as {credentials[0]}; kept in {place}")
    return 0


def logout_verb(args: argparse.Namespace, context: Context) -> int:
    """Forget what login has kept."""
    with context.workstation_with(LoggingIn, "log out of registries") as (_, backend):
        assert isinstance(backend, LoggingIn)
        places = backend.registry_logout(args.registry, TransferOptions(auth_file=args.authfile))
        if not places:
            context.talk.note(f"{args.registry}: nobody was logged in")
        for place in places:
            context.talk.note(f"{args.registry}: credentials removed from {place}")
    return 0


def _credentials(args: argparse.Namespace) -> tuple[str, str]:
    if args.password_stdin:
        if not args.username:
            raise UsageError("--password-stdin needs --username")
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        user = args.username or asked("Username: ")
        from getpass import getpass

        args.username, password = user, getpass("Password: ")
    else:
        raise UsageError("login: there is no terminal to ask for a password", hint="Pipe it in with --password-stdin")
    if not args.username or not password:
        raise UsageError("login: neither the user's name nor the password may be empty")
    return args.username, password
