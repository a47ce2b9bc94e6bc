"""`inn events`: what happens to guests, whoever does it, as it happens."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.cli.figures import time_text
from backends.errors import UsageError
from backends.events import GuestEvent

if TYPE_CHECKING:
    from app.cli.context import Context

_KEYS = ("guest", "container", "name", "id", "event", "action", "backend", "type", "image")
_OTHER_WORDS = {"destroy": "remove", "resume": "unpause"}


def events_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn events`."""
    from app.core.moments import parse_moment

    moment = "TIME"
    parser.add_argument(
        "--since", type=parse_moment, metavar=moment, help="begin with what happened since then: a time, or 10m ago"
    )
    parser.add_argument("--until", type=parse_moment, metavar=moment, help="end then (default: go on until Ctrl-C)")
    parser.add_argument(
        "-f",
        "--filter",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="only those: guest=web, event=die, backend=native, health=unhealthy …; several of one key: any of them",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one object a line")
    form.add_argument("--format", choices=("json",), help="the same as --json")


def events_verb(args: argparse.Namespace, context: Context) -> int:
    """Print what happens."""
    from app.core.story import Story

    is_wanted = _filter(args.filter)
    until_s = args.until
    follow = until_s is None or until_s > time.time()
    with context.workstation(sampling=follow) as station:
        code = context.note_missing(station)
        if code:
            return code

        def is_over() -> bool:
            return until_s is not None and time.time() > until_s

        for event in Story(station).events(since_s=args.since, follow=follow, stop=is_over):
            if is_wanted(event) and (until_s is None or event.time_s <= until_s):
                _print(args, context, event)
    return 0


def _print(args: argparse.Namespace, context: Context, event: GuestEvent) -> None:
    if args.json or args.format:
        context.out.json_line(
            {
                "time": time_text(event.time_s),
                "action": event.action,
                "id": event.ref.id,
                "name": event.name,
                "backend": event.ref.backend,
                "attributes": dict(event.attributes),
            }
        )
        return
    more = ", ".join(f"{key}={value}" for key, value in (("name", event.name), *event.attributes.items()))
    context.out.line(f"{time_text(event.time_s)} {event.ref.backend} {event.action} {event.ref.id} ({more})")
    context.out.flush()


def _filter(texts: list[str]) -> Callable[[GuestEvent], bool]:
    wanted: dict[str, set[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--filter: {text!r} is no filter: expected KEY=VALUE", hint="keys: " + ", ".join(_KEYS))
        wanted.setdefault(key, set()).add(_OTHER_WORDS.get(value, value))
    return lambda event: all(_fits(event, key, values) for key, values in wanted.items())


def _fits(event: GuestEvent, key: str, values: set[str]) -> bool:
    if key in ("event", "action"):
        return event.action in values
    if key in ("guest", "container", "name", "id"):
        return event.name in values or any(event.ref.id.startswith(value) for value in values if len(value) >= 4)
    if key in ("backend", "type"):
        return event.ref.backend in values or (key == "type" and "container" in values)
    return event.attributes.get(key) in values
