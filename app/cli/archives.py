"""`inn load` and `inn save`: images as archives."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from app.cli.image_keeping import archive_source
from app.cli.operating import add_trace_option, tracing
from backends.assets import ImageKeeping
from backends.errors import InnkeeperError, UsageError, os_error_text

if TYPE_CHECKING:
    from app.cli.context import Context


def load_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn load`."""
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="an archive, or a folder with an OCI layout")
    parser.add_argument("-i", "--input", metavar="FILE", help="the same, as docker has it; without both: stdin")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    add_trace_option(parser)


def load_act(args: argparse.Namespace, context: Context) -> int:
    """Take images from an archive, and print their names."""
    from app.cli.progress import follow

    if args.source and args.input:
        raise UsageError("load: two archives are given")
    source = archive_source(args.source or args.input or "-", "load")
    with (
        context.workstation_with(ImageKeeping, "load images") as (station, backend),
        tracing(context, station, args.trace),
    ):
        loaded = follow(
            context, station, "image.load", quiet=args.quiet, plain=args.trace, backend=backend.name, source=source
        )
        for image in loaded if isinstance(loaded, list | tuple) else ():
            context.out.line(image.name)
    return 0


def save_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn save`."""
    parser.add_argument("names", metavar="IMAGE", nargs="+", help="without a tag: all that are called so")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to; else to stdout")
    parser.add_argument(
        "--format", choices=("docker", "oci"), default="docker",
        help="docker (default): docker-archive; oci: OCI layout, blobs and digests as they are",
    )  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    add_trace_option(parser)


def save_act(args: argparse.Namespace, context: Context) -> int:
    """Write images to an archive."""
    from app.cli.progress import follow

    if not args.output and sys.stdout.isatty():
        raise UsageError("save: stdout is a terminal", hint="name a file: inn save -o FILE IMAGE, or pipe it on")
    with (
        context.workstation_with(ImageKeeping, "save images") as (station, backend),
        tracing(context, station, args.trace),
        _target(args.output) as target,
    ):
        follow(
            context, station, "image.save", quiet=args.quiet, plain=args.trace,
            backend=backend.name, names=args.names, target=target, format=args.format,
        )  # fmt: skip
    return 0


@contextmanager
def _target(path: str | None) -> Iterator[BinaryIO]:
    """Open where an archive goes; a file appears under its name only when it is whole."""
    if path is None or path == "-":
        yield sys.stdout.buffer
        return
    place = Path(path)
    if place.exists() and not place.is_file():  # a pipe or a device
        with place.open("wb") as file:
            yield file
        return
    draft = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        with draft.open("xb") as file:
            yield file
        draft.rename(place)
    except OSError as error:
        raise InnkeeperError(f"cannot write {path}: {os_error_text(error)}") from error
    finally:
        with suppress(OSError):
            draft.unlink()
