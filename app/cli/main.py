"""The command line's door: finds the verb, imports what it needs and turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from app.cli.diagnostics import BROKEN_PIPE, FAILED, INTERRUPTED, Talk
from app.cli.output import Output
from app.cli.streams import end_output, open_standard_streams
from app.cli.verbs import VERBS, Verb
from backends.errors import InnkeeperError, Unsupported, UsageError, os_error_text

if TYPE_CHECKING:
    import argparse

    from app.cli.context import Context
    from app.core.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Never raises."""
    open_standard_streams()
    return ending_well(lambda: _run(sys.argv[1:] if arguments is None else arguments))


def ending_well(work: Callable[[], int], *, failed: int = 0) -> int:
    """Do it and return its exit code, or that of what went wrong, which is said in a line; `failed` is in its place."""
    try:
        code = work()
        Output().flush()
        return code
    except InnkeeperError as error:
        code = Talk().error(error, after=failed)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = BROKEN_PIPE
    except OSError as error:  # what a backend should have translated: still one line, no traceback
        Talk().note(f"cannot go on: {os_error_text(error)}")
        code = failed or FAILED
    end_output()
    return code


def _run(arguments: Sequence[str]) -> int:
    from app.cli.parser import split_at_verb

    before, rest = split_at_verb(arguments)
    if not rest or rest[0] in ("-h", "--help"):
        return _run_without_verb(before)
    verb = VERBS.get(rest[0])
    if verb is None:
        raise UsageError(f"there is no command {rest[0]!r}", hint=_suggestion(rest[0]))
    return run_verb(verb, [*before, *rest[1:]])


def run_verb(verb: Verb, arguments: Sequence[str]) -> int:
    """Parse the verb's own arguments and do it."""
    from app.cli.context import Context
    from app.cli.parser import function_of, parser_of

    try:
        parsed = parser_of(verb).parse_args(arguments)
    except SystemExit as leaving:  # argparse's way to end after --help
        return leaving.code if isinstance(leaving.code, int) else 0
    except UsageError as error:
        Talk().error(error)
        return verb.usage_code
    context = Context(settings=settings_of(parsed), out=Output(color=not parsed.no_color))
    return function_of(verb)(parsed, context)


def context_of(words: Sequence[str]) -> Context:
    """Return what the verb in a command line that makes sense would be given."""
    from app.cli.context import Context
    from app.cli.parser import parser_of, split_at_verb

    before, rest = split_at_verb(words)
    parsed = parser_of(VERBS[rest[0]]).parse_args([*before, *rest[1:]])
    return Context(settings=settings_of(parsed), out=Output(color=not parsed.no_color))


def settings_of(parsed: argparse.Namespace) -> Settings:
    """Return the settings that the global options and the environment ask for."""
    from pathlib import Path

    from app.core.settings import settings_for

    return settings_for(
        root=Path(parsed.root) if parsed.root else None,
        backends=parsed.backend,
        libvirt_uri=parsed.libvirt_uri,
        options=_options(parsed.option),
    )


def _options(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        backend, dot, key = place.partition(".")
        if not (equals and dot and backend and key):
            raise UsageError(f"--option: {text!r} is no setting: expected BACKEND.KEY=VALUE")
        found.setdefault(backend, {})[key] = value
    return found


def _run_without_verb(arguments: Sequence[str]) -> int:
    if "--version" in arguments or "-V" in arguments:
        from app import __version__

        Output().line(f"inn {__version__}")
        return 0
    if "-h" in arguments or "--help" in arguments:
        return run_verb(VERBS["help"], [])
    from app.cli.parser import Parser, add_global_options

    parser = Parser(prog="inn")
    add_global_options(parser)
    parsed = parser.parse_args(arguments)
    settings = settings_of(parsed)
    if parsed.no_color:
        os.environ["NO_COLOR"] = "1"
    return open_screen(settings)


def open_screen(settings: Settings) -> int:
    """Open the screen; without a terminal say what to use instead."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        hint = "Use `inn top -n 3 --json` or `inn ps`, or see `inn help`"
        raise UsageError("cannot open the screen: there is no terminal", hint=hint)
    from importlib.util import find_spec

    if find_spec("textual") is None:
        hint = "pip install textual; without it there are `inn ps`, `inn top` and all other commands"
        raise Unsupported("cannot open the screen: the Python package textual is not installed", hint=hint)
    from app.tui.app import run  # the one place where the command line needs the screen

    return run(settings)


def _suggestion(word: str) -> str:
    import difflib

    close = difflib.get_close_matches(word, [verb.name for verb in VERBS.values() if not verb.is_hidden], 1)
    return f"Did you mean {close[0]!r}? See `inn help`" if close else "See `inn help`"
