"""`inn build`, `inn commit` and `inn diff`: images from Dockerfiles, and from what a guest has changed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.changes import print_changes
from app.cli.operating import add_trace_option, tracing
from app.cli.transfers import add_platform_option, add_transfer_options, transfer_options
from backends.assets import Building, Committing
from backends.errors import UsageError, os_error_text
from backends.image import BuildSpec, CommitOptions, Image

if TYPE_CHECKING:
    from app.cli.context import Context

_SWITCHES = {"true": True, "1": True, "false": False, "0": False}


def build_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn build`."""
    parser.add_argument("path", metavar="PATH", help="folder that COPY and ADD read from")
    parser.add_argument("-f", "--file", metavar="FILE", default="", help="the Dockerfile (default: PATH/Dockerfile)")
    parser.add_argument(
        "-t", "--tag", metavar="NAME", action="append", default=[], help="what the image is to be called"
    )
    parser.add_argument("--target", metavar="STAGE", default="", help="the stage to end with (default: the last)")
    parser.add_argument(
        "--build-arg", metavar="NAME[=VALUE]", action="append", default=[],
        help="value of an ARG; without a value that of the environment",
    )  # fmt: skip
    parser.add_argument("--label", metavar="NAME=VALUE", action="append", default=[], help="give the image a label")
    parser.add_argument(
        "--secret", metavar="id=NAME,…", action="append", default=[],
        help="for RUN --mount=type=secret: id=key,src=FILE or …,env=VAR; in memory only",
    )  # fmt: skip
    parser.add_argument("--no-cache", action="store_true", help="do every step anew")
    parser.add_argument("--pull", action="store_true", help="ask the registry for base images even if they are here")
    parser.add_argument(
        "--network", metavar="NETWORK", default="bridge", help="of RUN: bridge, none, host or a network's name"
    )
    parser.add_argument("--iidfile", metavar="FILE", default="", help="write the image's id to FILE")
    parser.add_argument("-q", "--quiet", action="store_true", help="print only the image's id")
    add_platform_option(parser)
    add_transfer_options(parser)
    add_trace_option(parser)


def spec_of(args: argparse.Namespace) -> BuildSpec:
    """Return what the options ask for. Raises UsageError."""
    from app.cli import run_values

    if args.path == "-":
        raise UsageError("a build needs a folder: a context on standard input is not read", hint="unpack it first")
    if "://" in args.path or args.path.startswith("git@"):
        raise UsageError(f"{args.path} is not here: a build needs a folder", hint="fetch it first, as with git clone")
    given = run_values.variables(args.build_arg, [])
    return BuildSpec(
        context=args.path,
        dockerfile=args.file,
        names=tuple(args.tag),
        target=args.target,
        build_args=dict(entry.partition("=")[::2] for entry in given),
        labels=run_values.labels("--label", args.label),
        no_cache=args.no_cache,
        pull=args.pull,
        network="bridge" if args.network == "default" else args.network,
        platform=args.platform,
        transfer=transfer_options(args),
        secrets=tuple(run_values.build_secret(text) for text in args.secret),
    )


def build_verb(args: argparse.Namespace, context: Context) -> int:
    """Build an image and print its id."""
    from app.cli.progress import follow

    spec = spec_of(args)
    with (
        context.workstation_with(Building, "build images") as (station, backend),
        tracing(context, station, args.trace),
    ):
        image = follow(
            context, station, "image.build", quiet=args.quiet, plain=args.trace, backend=backend.name, spec=spec
        )
    assert isinstance(image, Image)
    if args.iidfile:
        try:
            Path(args.iidfile).write_text(image.id)
        except OSError as error:
            raise UsageError(f"--iidfile: {os_error_text(error)}") from error
    context.out.line(image.id)
    return 0


def diff_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn diff`."""
    parser.add_argument("--json", action="store_true", help="print an array of objects")
    parser.add_argument("guest", metavar="GUEST")


def diff_verb(args: argparse.Namespace, context: Context) -> int:
    """Print which paths of a guest differ from its image."""
    from app.cli.context import capability_of

    with context.workstation_for([args.guest]) as station:
        guest = station.fleet.resolve(args.guest)
        backend = station.backend(guest.ref.backend)
        capability_of(backend, Committing, guest, "diff")
        assert isinstance(backend, Committing)
        committing: Committing = backend
        found = committing.changes(guest.ref)  # not ask(): it may take its time
    print_changes(context, found, as_json=args.json)
    return 0


def commit_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn commit`."""
    parser.add_argument("guest", metavar="GUEST")
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="what the image is to be called")
    parser.add_argument("-a", "--author", metavar="TEXT", default="", help="who made it")
    parser.add_argument("-m", "--message", metavar="TEXT", default="", help="what was changed")
    parser.add_argument(
        "-c", "--change", metavar="INSTRUCTION", action="append", default=[],
        help="an instruction of a Dockerfile that changes the image, as 'CMD [\"sh\"]'",
    )  # fmt: skip
    parser.add_argument(
        "-p", "--pause", metavar="BOOL", nargs="?", const="true", default="true",
        help="false: do not hold the guest still meanwhile (default: true)",
    )  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    add_trace_option(parser)


def commit_verb(args: argparse.Namespace, context: Context) -> int:
    """Make an image of a guest and print its id."""
    from app.cli.context import capability_of
    from app.cli.progress import follow

    pause = _SWITCHES.get(args.pause.lower())
    if pause is None:
        raise UsageError(f"--pause: {args.pause!r} is neither true nor false")
    options = CommitOptions(author=args.author, message=args.message, changes=tuple(args.change), pause=pause)
    with context.workstation_for([args.guest]) as station, tracing(context, station, args.trace):
        guest = station.fleet.resolve(args.guest)
        capability_of(station.backend(guest.ref.backend), Committing, guest, "commit")
        image = follow(
            context, station, "guest.commit", guest.ref, quiet=args.quiet, plain=args.trace,
            name=args.name, options=options,
        )  # fmt: skip
    assert isinstance(image, Image)
    context.out.line(image.id)
    return 0
