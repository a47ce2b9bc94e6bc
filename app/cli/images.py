"""`inn image import|ls|rm`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from app.cli.figures import NONE, age_text, bytes_text, time_text
from app.cli.operating import add_trace_option, tracing, wait_for
from app.cli.transfers import ACTS, add_transfer_acts, transfer_act
from backends.assets import Images
from backends.errors import InnkeeperError, UsageError
from backends.image import Image

if TYPE_CHECKING:
    from app.cli.context import Context


def image_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn image`."""
    acts = parser.add_subparsers(dest="act", metavar="ls|import|rm|pull|push|login|logout", required=True)
    listing = acts.add_parser("ls", help="list the images", description="List the images.")
    listing.add_argument("--json", action="store_true", help="print an array of objects")
    bring = acts.add_parser(
        "import", help="make an image from a root file system", description="Make an image from a root file system."
    )
    bring.add_argument(
        "source", metavar="SOURCE", help="a folder, a tar archive (also compressed), or - for a tar on stdin"
    )
    bring.add_argument("name", metavar="NAME", help="the image's name")
    add_trace_option(bring)
    remove = acts.add_parser("rm", help="remove images", description="Remove images that no container uses.")
    remove.add_argument("names", metavar="NAME", nargs="+")
    add_trace_option(remove)
    add_transfer_acts(acts)


def image_verb(args: argparse.Namespace, context: Context) -> int:
    """List, import, remove or transfer images."""
    if args.act in ACTS:
        return transfer_act(args, context)
    with (
        context.workstation_with(Images, "use images") as (station, backend),
        tracing(context, station, getattr(args, "trace", False)),
    ):
        if args.act == "ls":
            assert isinstance(backend, Images)
            return _list(args, context, list(station.ask("list images", backend.name, lambda _: backend.images())))
        if args.act == "import":
            source = _source(args.source)
            begun = station.submit("image.import", backend=backend.name, name=args.name, source=source)
            image = wait_for(context, begun)
            context.out.line(image.name if isinstance(image, Image) else args.name)
            return 0
        first_failure = 0
        for name in args.names:
            try:
                wait_for(context, station.submit("image.remove", backend=backend.name, name=name))
                context.out.line(name)
            except InnkeeperError as error:
                first_failure = context.talk.error(error, after=first_failure)
        return first_failure


def _source(text: str) -> object:
    if text != "-":
        return text
    if sys.stdin.isatty():
        hint = "Pipe one in: tar -c … | inn image import - NAME"
        raise UsageError("image import: stdin is a terminal, not a tar archive", hint=hint)
    return sys.stdin.buffer


def _list(args: argparse.Namespace, context: Context, images: list[Image]) -> int:
    if args.json:
        context.out.json([_as_json(image) for image in images])
        return 0
    rows = [
        (
            image.name,
            age_text(image.created_s),
            bytes_text(image.size_bytes),
            str(image.layers),
            image.id[:19],
            image.note or NONE,
        )
        for image in images
    ]
    context.out.table(("IMAGE", "AGE", "SIZE", "LAYERS", "ID", "NOTE"), rows, right=("AGE", "SIZE", "LAYERS"))
    return 0


def _as_json(image: Image) -> dict[str, Any]:
    return {
        "name": image.name,
        "id": image.id,
        "created": time_text(image.created_s),
        "size_bytes": image.size_bytes,
        "layers": image.layers,
        "note": image.note,
    }
