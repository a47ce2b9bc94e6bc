"""The parser of one verb, and the options that every verb takes."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from shutil import get_terminal_size
from typing import Any, NoReturn

from app.cli.output import Output
from app.cli.verbs import Verb
from backends.errors import UsageError

GLOBAL_VALUES = ("--root", "--backend", "--libvirt-uri", "--option")
"""Global options that take a value."""

GLOBAL_FLAGS = ("--no-color",)


class Parser(argparse.ArgumentParser):
    """Says its errors as UsageErrors and its help through Output."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        keywords.setdefault("allow_abbrev", False)
        keywords.setdefault("formatter_class", _Formatter)
        super().__init__(*args, **keywords)

    def error(self, message: str) -> NoReturn:
        """Raise the error with a pointer to the help."""
        verb = self.prog.partition(" ")[2]
        raise UsageError(f"{verb}: {message}" if verb else message, hint=f"See {self.prog} --help")

    def _print_message(self, message: str, file: object = None) -> None:
        Output().text(message)


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=min(100, max(60, get_terminal_size().columns - 2)))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """Say the value once: "-u, --user USER"."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


def add_global_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that are taken before and after every verb."""
    group = parser.add_argument_group("global options")
    group.add_argument(
        "--root",
        metavar="DIR",
        default=None,
        help="keep all state in DIR (default: $INNKEEPER_ROOT, else the system's or your own)",
    )
    group.add_argument(
        "--backend",
        metavar="NAME",
        action="append",
        default=None,
        help="use only this source of guests; may be given several times",
    )
    group.add_argument("--libvirt-uri", metavar="URI", default=None, help="connect to this libvirt (qemu:///system)")
    group.add_argument(
        "--option",
        metavar="BACKEND.KEY=VALUE",
        action="append",
        default=[],
        help="a setting of one backend; may be given several times",
    )
    group.add_argument("--no-color", action="store_true", help="no colours, like NO_COLOR=1")


def parser_of(verb: Verb) -> Parser:
    """Return the whole parser of a verb; imports its module."""
    parser = Parser(prog=f"inn {verb.name}", description=verb.help + ".")
    add_arguments(verb, parser)
    add_global_options(parser)
    return parser


def add_arguments(verb: Verb, parser: argparse.ArgumentParser) -> None:
    """Let the verb's module declare its own options."""
    module = importlib.import_module(f"app.cli.{verb.module}")
    declare: Callable[[argparse.ArgumentParser], None] = getattr(module, f"{verb.function}_arguments")
    declare(parser)


def function_of(verb: Verb) -> Callable[..., int]:
    """Return what does the verb."""
    found: Callable[..., int] = getattr(importlib.import_module(f"app.cli.{verb.module}"), verb.function)
    return found


def split_at_verb(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the global options before the verb, and the verb with all that follows it."""
    index = 0
    while index < len(arguments) and arguments[index].startswith("-") and arguments[index] != "-":
        index += 2 if arguments[index] in GLOBAL_VALUES else 1
    return list(arguments[:index]), list(arguments[index:])
