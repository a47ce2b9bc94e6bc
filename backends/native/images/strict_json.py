"""JSON of strangers: bounded in length, depth and numbers, and without two values for one key.

Digests are of bytes; two readers that took a different one of two equal keys would see different images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from backends.errors import InnkeeperError

_MAX_DEPTH = 64
_MAX_DIGITS = 20
"""Sizes are int64; more digits only cost time."""


_LONGEST = 500
_NO_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\[\]{}"]+|"', re.DOTALL)
"""Strings, and all else that opens and closes nothing."""


class Malformed(InnkeeperError):
    """What others wrote is not what it should be; what is quoted of it stays on one line."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(on_one_line(message), hint=hint)


def on_one_line(text: str) -> str:
    """Return other people's text as part of a message: without control characters, and not endless."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_LONGEST])


def parse(data: bytes, what: str, limit_bytes: int = 4 << 20) -> dict[str, Any]:
    """Return the JSON object that some bytes are; `what` names it in errors. Raises Malformed."""
    if len(data) > limit_bytes:
        raise Malformed(f"{what} is longer than {limit_bytes} bytes")
    if _depth(data) > _MAX_DEPTH:
        raise Malformed(f"{what} is nested deeper than {_MAX_DEPTH}")
    try:
        found = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_int=_integer, parse_constant=_constant
        )
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{what} is no valid JSON: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise Malformed(f"{what} is no JSON object")
    return found


def parse_list(data: bytes, what: str, limit_bytes: int = 4 << 20) -> list[Any]:
    """Return the JSON array that some bytes are. Raises Malformed."""
    found = parse(b'{"list":' + data + b"}", what, limit_bytes)["list"]
    return a_list(found, what)


def _depth(data: bytes) -> int:
    """Return how deep brackets nest at most: the parser recurses, and so does whoever writes it again."""
    depth = deepest = 0
    for bracket in _NO_BRACKETS.sub(b"", data):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice[:60]!r} stands twice")
    return found


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"number of {len(text)} digits")
    return int(text)


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def a_list(value: object, what: str) -> list[Any]:
    """Return a value that has to be an array; null is an empty one (Go writes it so). Raises Malformed."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(f"{what} is no array")
    return value


def an_object(value: object, what: str) -> dict[str, Any]:
    """Return a value that has to be an object; null is an empty one. Raises Malformed."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed(f"{what} is no object")
    return value


def a_text(value: object, what: str) -> str:
    """Return a value that has to be text without NUL bytes; null is empty. Raises Malformed."""
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise Malformed(f"{what} is no text")
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: no file and no terminal takes it
        raise Malformed(f"{what} is no valid Unicode") from None
    return value


def texts(value: object, what: str) -> tuple[str, ...]:
    """Return an array of texts. Raises Malformed."""
    return tuple(a_text(entry, what) for entry in a_list(value, what))


def text_map(value: object, what: str) -> Mapping[str, str]:
    """Return an object whose values are texts. Raises Malformed."""
    return {a_text(key, what): a_text(entry, what) for key, entry in an_object(value, what).items()}


def a_size(value: object, what: str) -> int:
    """Return a length in bytes. Raises Malformed."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise Malformed(f"{what} is no size")
    return value
