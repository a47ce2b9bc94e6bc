"""`inn volume create|ls|inspect|rm|prune`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.cli.asking import agreed
from app.cli.figures import NONE, age_text, bytes_text, time_text
from app.cli.operating import add_trace_option, tracing, wait_for
from app.cli.run_values import labels
from backends.assets import Volumes
from backends.errors import InnkeeperError, NotFound, UsageError
from backends.volume import Volume, VolumeSpec

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.core.workstation import Workstation
    from backends.base import Backend

_YES_NO = {"true": True, "1": True, "false": False, "0": False}


def volume_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn volume`."""
    acts = parser.add_subparsers(dest="act", metavar="ls|create|inspect|rm|prune", required=True)
    listing = _act(acts, "ls", "list the volumes")
    listing.add_argument("-q", "--quiet", action="store_true", help="print names only")
    listing.add_argument("--json", action="store_true", help="print an array of objects")
    listing.add_argument("-s", "--size", action="store_true", help="count what their files take, which takes a while")
    listing.add_argument(
        "-f", "--filter", metavar="KEY=VALUE", action="append", default=[],
        help="only some: name=, label=KEY[=VALUE], dangling=true|false (that no guest has)",
    )  # fmt: skip
    creating = _act(acts, "create", "make an empty volume and print its name")
    creating.add_argument("--label", metavar="KEY[=VALUE]", action="append", default=[], help="put a label on it")
    creating.add_argument("name", metavar="NAME", nargs="?", default="", help="its name; without one it is made up")
    inspecting = _act(acts, "inspect", "print all that is known of volumes, as JSON")
    inspecting.add_argument("-s", "--size", action="store_true", help="count what their files take too")
    inspecting.add_argument("--json", action="store_true", help="this is the only form; taken for the sake of scripts")
    inspecting.add_argument("names", metavar="VOLUME", nargs="+")
    removing = _act(acts, "rm", "remove volumes that no guest has, with their files")
    removing.add_argument("-f", "--force", action="store_true", help="one that is not there is no error")
    removing.add_argument("names", metavar="VOLUME", nargs="+")
    pruning = _act(acts, "prune", "remove all volumes that no guest has, with their files")
    pruning.add_argument("-f", "--force", action="store_true", help="do not ask before")
    pruning.add_argument("--dry-run", action="store_true", help="only say which those are")


def _act(acts: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = acts.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    if name not in ("ls", "inspect"):
        add_trace_option(parser)
    return parser


def volume_verb(args: argparse.Namespace, context: Context) -> int:
    """Do one of them."""
    with context.workstation_with(Volumes, "have volumes") as (station, backend):
        if args.act in ("ls", "inspect"):
            found = _volumes(station, backend)
            return (_list if args.act == "ls" else _inspect)(args, context, station, backend, found)
        with tracing(context, station, args.trace):
            if args.act == "create":
                spec = VolumeSpec(args.name, labels("--label", args.label))
                made = wait_for(context, station.submit("volume.create", backend=backend.name, spec=spec))
                context.out.line(made.name if isinstance(made, Volume) else args.name)
                return 0
            return (_prune if args.act == "prune" else _remove)(args, context, station, backend)


def _volumes(station: Workstation, backend: Backend) -> Sequence[Volume]:
    assert isinstance(backend, Volumes)
    found: Sequence[Volume] = station.ask("list volumes", backend.name, lambda _: backend.volumes())
    return found


def _remove(args: argparse.Namespace, context: Context, station: Workstation, backend: Backend) -> int:
    first_failure = 0
    for name in args.names:
        try:
            wait_for(context, station.submit("volume.remove", backend=backend.name, name=name))
            context.out.line(name)
        except InnkeeperError as error:
            if not (args.force and isinstance(error, NotFound)):
                first_failure = context.talk.error(error, after=first_failure)
    return first_failure


def _prune(args: argparse.Namespace, context: Context, station: Workstation, backend: Backend) -> int:
    unused = wait_for(context, station.submit("volume.prune", backend=backend.name, dry_run=True))
    assert isinstance(unused, Sequence)
    if not unused:
        context.talk.note("no volume is without guests")
    if args.dry_run:
        for name in unused:
            context.out.line(name)
        return 0
    if unused and not args.force and not agreed(f"Remove, with their files: {', '.join(unused)}?"):
        context.talk.note("no volume was removed (-f does not ask)")
        return 1
    args.names, args.force = unused, True
    return _remove(args, context, station, backend)


def _list(
    args: argparse.Namespace, context: Context, station: Workstation, backend: Backend, volumes: Sequence[Volume]
) -> int:
    shown = [each for each in volumes if all(_fits(each, text) for text in args.filter)]
    sizes = _sizes(context, station, backend, shown) if args.size else {}
    if args.json:
        context.out.json([as_json(each, sizes) for each in shown])
    elif args.quiet:
        for each in shown:
            context.out.line(each.name)
    else:
        titles = ["VOLUME", "GUESTS", "AGE", *(["SIZE"] if args.size else []), "NOTE"]
        context.out.table(titles, [_row(each, sizes, args.size) for each in shown], right=("AGE", "SIZE"))
    return 0


def _row(volume: Volume, sizes: Mapping[str, int], with_size: bool) -> tuple[str, ...]:
    guests = ", ".join(user.guest for user in volume.users) or NONE
    size = [bytes_text(sizes[volume.name]) if volume.name in sizes else NONE] if with_size else []
    return (volume.name, guests, age_text(volume.created_s), *size, volume.note or NONE)


def _inspect(
    args: argparse.Namespace, context: Context, station: Workstation, backend: Backend, volumes: Sequence[Volume]
) -> int:
    found: list[Volume] = []
    first_failure = 0
    for name in args.names:
        volume = next((each for each in volumes if each.name == name), None)
        if volume is None:
            error = NotFound(f"there is no volume {name}", hint="inn volume ls lists them")
            first_failure = context.talk.error(error, after=first_failure)
        else:
            found.append(volume)
    sizes = _sizes(context, station, backend, found) if args.size else {}
    if len(args.names) > 1:
        context.out.json([as_json(each, sizes) for each in found])
    elif found:
        context.out.json(as_json(found[0], sizes))
    return first_failure


def _sizes(context: Context, station: Workstation, backend: Backend, volumes: Sequence[Volume]) -> Mapping[str, int]:
    """Return their sizes in bytes, without those of volumes that have just been removed."""
    begun = {each.name: station.submit("volume.size", backend=backend.name, name=each.name) for each in volumes}
    found = {}
    for name, operation in begun.items():
        try:
            size = wait_for(context, operation)
        except NotFound:
            continue
        assert isinstance(size, int)
        found[name] = size
    return found


def _fits(volume: Volume, text: str) -> bool:
    key, _, value = text.partition("=")
    if key == "name" and value:
        return value in volume.name
    if key == "dangling" and value in _YES_NO:
        return _YES_NO[value] is not bool(volume.users)
    if key == "label" and value:
        name, equals, wanted = value.partition("=")
        return name in volume.labels and (not equals or volume.labels[name] == wanted)
    raise UsageError(f"--filter: {text!r} makes no sense", hint="name=, label=KEY[=VALUE], dangling=true|false")


def as_json(volume: Volume, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return the volume as JSON types. The keys are a promise: see docs/cli.md."""
    return {
        "name": volume.name,
        "created": time_text(volume.created_s),
        "folder": volume.folder or None,
        "labels": dict(volume.labels),
        "note": volume.note,
        "size_bytes": sizes.get(volume.name),
        "guests": [{"name": user.guest, "places": list(user.places), "live": user.is_live} for user in volume.users],
    }
