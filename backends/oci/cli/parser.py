"""Reading the words of the command line as Go's flag packages do, which callers were written for."""

from __future__ import annotations

from backends.errors import UsageError
from backends.oci.cli.verbs import BOOL, LIST, NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TRUE = ("true", "1", "t", "T", "TRUE", "True")
_FALSE = ("false", "0", "f", "F", "FALSE", "False")


def parse(
    words: list[str], options: dict[str, str], aliases: dict[str, str], stop_after: int = 0
) -> tuple[dict[str, Any], list[str]]:
    """Return options by name, and arguments. One dash or two, "=" or the next word for the value.

    Options may stand before and after arguments, until `stop_after` arguments are read. Raises UsageError.
    """
    found: dict[str, Any] = {}
    arguments: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return found, arguments + rest
        if len(word) < 2 or word[0] != "-":
            arguments.append(word)
            if stop_after and len(arguments) >= stop_after:
                return found, arguments + rest
            continue
        _option(word, rest, options, aliases, found)
    return found, arguments


def _option(
    word: str, rest: list[str], options: dict[str, str], aliases: dict[str, str], found: dict[str, Any]
) -> None:
    name, equals, value = word.lstrip("-").partition("=")
    name = aliases.get(name, name)
    kind = options.get(name)
    if kind is None:
        letters = [aliases.get(letter, letter) for letter in word[1:]]
        if word[1] == "-" or equals or any(options.get(letter) != BOOL for letter in letters):
            raise UsageError(f"flag provided but not defined: -{name}")
        found.update(dict.fromkeys(letters, True))
    elif kind == BOOL:
        found[name] = _bool(name, value) if equals else True
    else:
        if not equals:
            if not rest:
                raise UsageError(f"flag needs an argument: -{name}")
            value = rest.pop(0)
        _keep(found, name, kind, value)


def _keep(found: dict[str, Any], name: str, kind: str, value: str) -> None:
    if kind == LIST:
        found.setdefault(name, []).append(value)
    elif kind == NUMBER:
        try:
            found[name] = int(value)
        except ValueError:
            raise UsageError(f'invalid value "{value}" for flag -{name}: parse error') from None
    else:
        found[name] = value


def _bool(name: str, value: str) -> bool:
    if value in _TRUE or value in _FALSE:
        return value in _TRUE
    raise UsageError(f'invalid boolean value "{value}" for flag -{name}: parse error')
