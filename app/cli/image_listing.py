"""`inn images`, `inn history` and `inn image inspect|search`: what is stored."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from app.cli.figures import NONE, age_text, bytes_text, time_text
from backends.assets import ImageKeeping, Images
from backends.errors import InnkeeperError, UsageError
from backends.image import Image, ImageLayer, short_id

if TYPE_CHECKING:
    from app.cli.context import Context

_T = TypeVar("_T")
_COMMAND_CELLS = 60


def list_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn images`."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="only those called so; * and ? stand for anything")
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids only")
    parser.add_argument(
        "-f", "--filter", metavar="KEY=VALUE", action="append", default=[],
        help="dangling=true|false, used=true|false, label=KEY[=VALUE], reference=NAME",
    )  # fmt: skip
    parser.add_argument("--digests", action="store_true", help="show the digests of their manifests")
    parser.add_argument("--no-trunc", action="store_true", help="show whole ids and digests")
    parser.add_argument("--json", action="store_true", help="print an array of objects")


def list_act(args: argparse.Namespace, context: Context) -> int:
    """List the images."""
    filters = [_filter(text) for text in args.filter]
    if args.name:
        filters.append(_by_name(args.name))
    found = [image for image in _asked(context, Images, _all) if all(fits(image) for fits in filters)]
    if args.json:
        context.out.json([_as_json(image) for image in found])
    elif args.quiet:
        for shown in dict.fromkeys(image.id if args.no_trunc else short_id(image.id) for image in found):
            context.out.line(shown)
    else:
        _table(args, context, found)
    return 0


def _all(backend: Any) -> list[Image]:
    return list(backend.images())


def _asked(context: Context, capability: type[Any], ask: Callable[[Any], _T]) -> _T:
    with context.workstation_with(capability, "use images") as (station, backend):
        found: _T = station.ask("look at images", backend.name, ask)
        return found


def _table(args: argparse.Namespace, context: Context, images: Sequence[Image]) -> None:
    titles = ["IMAGE", "AGE", "SIZE", "OWN", "LAYERS", "ID", *(["DIGEST"] if args.digests else []), "USED BY", "NOTE"]
    cut = (lambda digest: digest) if args.no_trunc else short_id
    rows = [
        [
            image.name,
            age_text(image.created_s),
            bytes_text(image.size_bytes),
            bytes_text(image.own_bytes),
            str(image.layers),
            cut(image.id),
            *([cut(image.digest) or NONE] if args.digests else []),
            ", ".join(image.users[:3]) + (" …" if len(image.users) > 3 else "") or NONE,
            image.note or NONE,
        ]
        for image in images
    ]
    context.out.table(titles, rows, right=("AGE", "SIZE", "OWN", "LAYERS"))


def _as_json(image: Image) -> dict[str, Any]:
    return {
        "name": image.name,
        "id": image.id,
        "created": time_text(image.created_s),
        "size_bytes": image.size_bytes,
        "layers": image.layers,
        "note": image.note,
        "digest": image.digest,
        "platform": image.platform,
        "own_bytes": image.own_bytes,
        "users": list(image.users),
        "labels": dict(image.labels),
        "dangling": image.is_dangling,
    }


def _filter(text: str) -> Callable[[Image], bool]:
    """Return what a --filter lets pass. Raises UsageError."""
    key, _, value = text.partition("=")
    if key in ("dangling", "used") and value in ("true", "false"):
        wanted = value == "true"
        return lambda image: (image.is_dangling if key == "dangling" else bool(image.users)) is wanted
    if key == "label" and value:
        label, has_value, content = value.partition("=")
        return lambda image: label in image.labels and (not has_value or image.labels[label] == content)
    if key == "reference" and value:
        return _by_name(value)
    raise UsageError(f"--filter: {text!r} makes no sense", hint="dangling=, used=, label= or reference=")


def _by_name(pattern: str) -> Callable[[Image], bool]:
    """A pattern without a tag means all of them, as for docker."""
    return lambda image: fnmatchcase(image.name, pattern) or fnmatchcase(image.name.rpartition(":")[0], pattern)


def inspect_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn image inspect`."""
    parser.add_argument("names", metavar="IMAGE", nargs="+", help="name, id or beginning of an id")
    parser.add_argument("--json", action="store_true", help="this is the only form; taken for the sake of scripts")


def inspect_act(args: argparse.Namespace, context: Context) -> int:
    """Print all that is known: one object for one image, an array for several."""
    found, first_failure = [], 0
    with context.workstation_with(ImageKeeping, "look into images") as (station, backend):
        for name in args.names:
            try:
                found.append(station.ask(f"inspect {name}", backend.name, _inspecting(name)))
            except InnkeeperError as error:
                first_failure = context.talk.error(error, after=first_failure)
    if len(args.names) > 1:
        context.out.json(found)
    elif found:
        context.out.json(found[0])
    return first_failure


def _inspecting(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda backend: dict(backend.image_inspect(name))


def history_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn history`."""
    parser.add_argument("image", metavar="IMAGE", help="name, id or beginning of an id")
    parser.add_argument("-q", "--quiet", action="store_true", help="print the digests of layers only")
    parser.add_argument("--no-trunc", action="store_true", help="show whole commands and digests")
    parser.add_argument("--json", action="store_true", help="print an array of objects")


def history_act(args: argparse.Namespace, context: Context) -> int:
    """Show an image's steps, newest first."""
    steps: list[ImageLayer] = _asked(
        context, ImageKeeping, lambda backend: list(reversed(backend.image_history(args.image)))
    )
    if args.json:
        context.out.json([_step_json(step) for step in steps])
        return 0
    if args.quiet:
        for step in steps:
            if step.digest:
                context.out.line(step.digest)
        return 0
    rows = [
        (
            (step.digest if args.no_trunc else short_id(step.digest)) or NONE,
            age_text(step.created_s),
            bytes_text(step.size_bytes),
            bytes_text(step.blob_bytes),
            str(step.images) if step.digest else NONE,
            step.created_by if args.no_trunc else _shortened(step.created_by),
        )
        for step in steps
    ]
    titles = ("LAYER", "AGE", "SIZE", "PACKED", "IMAGES", "CREATED BY")
    context.out.table(titles, rows, right=("AGE", "SIZE", "PACKED", "IMAGES"))
    return 0


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _COMMAND_CELLS else line[: _COMMAND_CELLS - 1] + "…"


def _step_json(step: ImageLayer) -> dict[str, Any]:
    return {
        "created_by": step.created_by,
        "created": time_text(step.created_s),
        "digest": step.digest,
        "diff_id": step.diff_id,
        "size_bytes": step.size_bytes,
        "blob_bytes": step.blob_bytes,
        "comment": step.comment,
        "images": step.images,
    }


def search_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn image search`."""
    parser.add_argument("term", metavar="TERM", help="part of a name, a label or a command, in any case")
    parser.add_argument("-q", "--quiet", action="store_true", help="print names only")
    parser.add_argument("--json", action="store_true", help="print an array of objects")


def search_act(args: argparse.Namespace, context: Context) -> int:
    """Find stored images; no registry is asked."""
    hits = _asked(context, ImageKeeping, lambda backend: list(_hits(backend, args.term.lower())))
    if args.json:
        context.out.json([{"name": name, "where": where, "text": text} for name, where, text in hits])
    elif args.quiet:
        for name in dict.fromkeys(name for name, _, _ in hits):
            context.out.line(name)
    else:
        rows = [(name, where, _shortened(text)) for name, where, text in hits]
        context.out.table(("IMAGE", "WHERE", "TEXT"), rows)
    return 0 if hits else 1


def _hits(backend: Any, term: str) -> Iterator[tuple[str, str, str]]:
    for image in backend.images():
        if term in image.name.lower():
            yield image.name, "name", image.name
        for key, value in image.labels.items():
            if term in f"{key}={value}".lower():
                yield image.name, "label", f"{key}={value}"
        for step in backend.image_history(image.name):
            if term in step.created_by.lower() or term in step.comment.lower():
                yield image.name, "history", step.created_by or step.comment
