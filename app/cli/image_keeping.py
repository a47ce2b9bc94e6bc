"""`inn tag`, `inn import`, `inn rmi` and `inn image prune`: giving and taking images."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from app.cli.figures import bytes_text
from app.cli.operating import add_trace_option, tracing, wait_for
from backends.assets import ImageKeeping, Images
from backends.errors import InnkeeperError, UsageError
from backends.image import Image, Pruned, PruneOptions

if TYPE_CHECKING:
    from app.cli.context import Context


def tag_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn tag`."""
    parser.add_argument("image", metavar="IMAGE", help="name, id or beginning of an id")
    parser.add_argument("new_name", metavar="NAME", help="the further name; taken from an image that has it")


def tag_act(args: argparse.Namespace, context: Context) -> int:
    """Give an image a further name."""
    with context.workstation_with(ImageKeeping, "name images") as (station, backend):
        begun = station.submit("image.tag", backend=backend.name, name=args.image, new_name=args.new_name)
        wait_for(context, begun)
    return 0


def import_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn import`."""
    parser.add_argument(
        "source", metavar="SOURCE", help="a folder, a tar archive (also compressed), or - for a tar on stdin"
    )
    parser.add_argument("name", metavar="NAME", help="the image's name")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    add_trace_option(parser)


def import_act(args: argparse.Namespace, context: Context) -> int:
    """Make an image from a root file system."""
    from app.cli.progress import follow

    with (
        context.workstation_with(Images, "use images") as (station, backend),
        tracing(context, station, args.trace),
    ):
        image = follow(
            context, station, "image.import", quiet=args.quiet, plain=args.trace,
            backend=backend.name, name=args.name, source=archive_source(args.source, "image import"),
        )  # fmt: skip
        context.out.line(image.name if isinstance(image, Image) else args.name)
    return 0


def archive_source(text: str, verb: str) -> object:
    """Return a path, or standard input for "-". Raises UsageError if that is a terminal."""
    if text != "-":
        return text
    if sys.stdin.isatty():
        raise UsageError(f"{verb}: stdin is a terminal, not an archive", hint="pipe one in, or give its name")
    return sys.stdin.buffer


def remove_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn rmi`."""
    parser.add_argument("names", metavar="IMAGE", nargs="+", help="name, id or beginning of an id")
    parser.add_argument(
        "-f", "--force", action="store_true", help="all their names; those in use are removed with their containers"
    )
    add_trace_option(parser)


def remove_act(args: argparse.Namespace, context: Context) -> int:
    """Take names from images, and remove those that have none left; each is tried."""
    first_failure = 0
    with (
        context.workstation_with(Images, "use images") as (station, backend),
        tracing(context, station, args.trace),
    ):
        for name in dict.fromkeys(args.names):
            try:
                begun = station.submit("image.remove", backend=backend.name, name=name, force=args.force)
                wait_for(context, begun)
                context.out.line(name)
            except InnkeeperError as error:
                first_failure = context.talk.error(error, after=first_failure)
    return first_failure


def prune_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn image prune`."""
    parser.add_argument("-a", "--all", action="store_true", help="also images with names that no container uses")
    parser.add_argument("--build-cache", action="store_true", help="also what builds could use again")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    parser.add_argument("-f", "--force", action="store_true", help="nothing is asked anyhow; taken as docker has it")
    parser.add_argument("--json", action="store_true", help="print an object")


def prune_act(args: argparse.Namespace, context: Context) -> int:
    """Remove what nobody uses, and say what that was."""
    with context.workstation_with(ImageKeeping, "prune images") as (station, backend):
        options = PruneOptions(all=args.all, build_cache=args.build_cache)
        begun = station.submit("image.prune", backend=backend.name, options=options, dry_run=args.dry_run)
        pruned = wait_for(context, begun)
    assert isinstance(pruned, Pruned)
    if args.json:
        context.out.json(asdict(pruned))
        return 0
    for name in pruned.images:
        context.out.line(name)
    would = "would be freed" if args.dry_run else "freed"
    counts = (("image", len(pruned.images)), ("layer", pruned.layers), ("blob", pruned.blobs))
    parts = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for word, count in counts)
    if pruned.caches:
        parts += f", {pruned.caches} cache{'' if pruned.caches == 1 else 's'} of mounts"
    context.talk.note(f"{bytes_text(pruned.freed_bytes)} {would}: {parts}")
    return 0
