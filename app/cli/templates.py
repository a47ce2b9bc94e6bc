"""`inn template create|ls|use|rm`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.cli.context import capability_of
from app.cli.figures import NONE, age_text, bytes_text, time_text
from app.cli.operating import add_trace_option, tracing
from app.cli.progress import follow
from backends.assets import Templating
from backends.errors import InnkeeperError
from backends.image import Template
from backends.model import Guest

if TYPE_CHECKING:
    from app.cli.context import Context


def template_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn template`."""
    acts = parser.add_subparsers(dest="act", metavar="create|ls|use|rm", required=True)
    create = acts.add_parser(
        "create", help="keep a guest's files and settings", description="Keep a guest to make others from."
    )
    create.add_argument("guest", metavar="GUEST")
    create.add_argument("name", metavar="NAME")
    listing = acts.add_parser("ls", help="list the templates", description="List the templates.")
    listing.add_argument("--json", action="store_true", help="print an array of objects")
    use = acts.add_parser("use", help="make a guest from one", description="Make a guest from a template.")
    use.add_argument("template", metavar="TEMPLATE")
    use.add_argument("name", metavar="NAME", nargs="?", help="default: the template's with a number")
    remove = acts.add_parser(
        "rm", help="remove templates; guests made from them stay", description="Remove templates; guests stay whole."
    )
    remove.add_argument("templates", metavar="TEMPLATE", nargs="+")
    for below in (create, use, remove):
        add_trace_option(below)


def template_verb(args: argparse.Namespace, context: Context) -> int:
    """Keep, list, use or remove."""
    if args.act == "create":
        return _create(args, context)
    with (
        context.workstation_with(Templating, "keep templates") as (station, backend),
        tracing(context, station, getattr(args, "trace", False)),
    ):
        if args.act == "ls":
            assert isinstance(backend, Templating)
            templating: Templating = backend
            return _list(args, context, station.ask("list templates", backend.name, lambda _: templating.templates()))
        if args.act == "use":
            made = follow(
                context, station, "template.use", None, backend=backend.name, template=args.template, name=args.name
            )
            context.out.line(made.name if isinstance(made, Guest) else args.name)
            return 0
        first_failure = 0
        for name in args.templates:
            try:
                follow(context, station, "template.remove", None, backend=backend.name, name=name)
                context.out.line(name)
            except InnkeeperError as error:
                first_failure = context.talk.error(error, after=first_failure)
        return first_failure


def _create(args: argparse.Namespace, context: Context) -> int:
    with context.workstation_for([args.guest]) as station, tracing(context, station, args.trace):
        guest = station.fleet.resolve(args.guest)
        capability_of(station.backend(guest.ref.backend), Templating, guest, "template")
        follow(context, station, "template.create", guest.ref, name=args.name)
        context.out.line(args.name)
    return 0


def _list(args: argparse.Namespace, context: Context, found: Sequence[Template]) -> int:
    if args.json:
        context.out.json([_as_json(template) for template in found])
    elif found:
        rows = [
            (each.name, age_text(each.created_s), bytes_text(each.size_bytes), each.image or NONE,
             ", ".join(each.guests) or NONE)
            for each in found
        ]  # fmt: skip
        context.out.table(("TEMPLATE", "AGE", "SIZE", "IMAGE", "GUESTS"), rows, right=("AGE", "SIZE"))
    else:
        context.talk.note("there are no templates. `inn template create GUEST NAME` makes one")
    return 0


def _as_json(template: Template) -> dict[str, Any]:
    return {
        "name": template.name,
        "created": time_text(template.created_s),
        "image": template.image,
        "size_bytes": template.size_bytes,
        "guests": list(template.guests),
    }
