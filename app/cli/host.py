"""`inn doctor` and `inn clean`: the host and what lies about on it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from app.cli.operating import add_trace_option, tracing, wait_for
from backends.base import Cleaning
from backends.errors import InnkeeperError

if TYPE_CHECKING:
    from app.cli.context import Context
    from backends.base import CheckResult

_MARKS = {True: ("works", "good"), False: ("off", "bad"), None: ("note", "warn")}


def doctor_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn doctor`."""
    parser.add_argument("--json", action="store_true", help="print an array of objects")


def doctor_verb(args: argparse.Namespace, context: Context) -> int:
    """Print what works here, and why not and what would mend it for the rest."""
    from app.core.doctor import collect

    results = collect(context.settings)
    if args.json:
        context.out.json([asdict(result) for result in results])
    else:
        _print(context, results)
    return 0


def _print(context: Context, results: Sequence[CheckResult]) -> None:
    width = max((len(result.name) for result in results), default=0)
    for area in dict.fromkeys(result.area for result in results):
        context.out.heading(area)
        for result in results:
            if result.area != area:
                continue
            word, style = _MARKS[result.ok]
            context.out.styled((f"  {word:<6}", style), (f"{result.name:<{width}}  {result.found}", ""))
            if result.why:
                context.out.line(f"          {result.why}")
            if result.mend:
                context.out.line(f"          mend: {result.mend}")
    off = sum(result.ok is False for result in results)
    context.out.line()
    context.out.line(
        f"{sum(result.ok is True for result in results)} work, {off} off, "
        f"{sum(result.ok is None for result in results)} notes"
    )


def clean_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn clean`."""
    parser.add_argument("--json", action="store_true", help="print an array of what was removed")
    add_trace_option(parser)


def clean_verb(args: argparse.Namespace, context: Context) -> int:
    """Sweep what belongs to no live guest, in every backend that keeps anything."""
    removed: list[str] = []
    first_failure = 0
    with context.workstation() as station, tracing(context, station, args.trace):
        if code := context.note_missing(station):
            return code
        for name in (status.name for status in station.statuses() if status.state == "up"):
            try:
                if isinstance(station.backend(name), Cleaning):
                    result = wait_for(context, station.submit("host.clean", backend=name))
                    removed += [str(line) for line in result] if isinstance(result, (list, tuple)) else []
            except InnkeeperError as error:
                first_failure = context.talk.error(error, after=first_failure)
    if args.json:
        context.out.json(removed)
        return first_failure
    for line in removed:
        context.out.line(line)
    if not removed and not first_failure:
        context.talk.note("nothing to clean")
    return first_failure
