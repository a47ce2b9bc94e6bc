"""JSON in and out without the cost of importing `json`, which loads `re`: half of what `inn oci state` takes.

The C functions behind `json` are used where this Python has them, else `json` itself.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


class _Context:
    """What the scanner asks of a JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner's own

    @staticmethod
    def parse_constant(name: str) -> float:
        return float(name.replace("Infinity", "inf"))


def loads(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError."""
    try:
        from _json import make_scanner
    except ImportError:
        import json

        return json.loads(text)
    stripped = text.strip(" \t\n\r")
    try:
        value, end = make_scanner(_Context())(stripped, 0)  # type: ignore[arg-type]
    except StopIteration as error:
        raise ValueError(f"no JSON value at position {error.value}") from None
    if end != len(stripped):
        raise ValueError(f"more than one JSON value: position {end}")
    return value


def dumps(value: object, indent: str = "", *, sort_keys: bool = False) -> str:
    """Return the JSON text of strings, numbers, lists and mappings; on one line, without blanks, without an indent.

    Keys keep their order unless they are sorted on one line, and all but ASCII is escaped. Raises TypeError for
    what JSON has no word for, ValueError for what holds itself.
    """
    if indent:
        return _indented(value, indent, "\n")
    try:
        from _json import encode_basestring_ascii, make_encoder
    except ImportError:
        import json

        return json.dumps(value, separators=(",", ":"), sort_keys=sort_keys)
    markers: dict[int, object] = {}
    encoder = make_encoder(markers, _refuse, encode_basestring_ascii, None, ":", ",", sort_keys, False, True)
    return "".join(encoder(value, 0))


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is no JSON type")


def _indented(value: object, indent: str, margin: str) -> str:
    if isinstance(value, str):
        return _quote(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return _list(value, indent, margin)
    if isinstance(value, dict):
        return _mapping(value, indent, margin)
    raise TypeError(f"{type(value).__name__} is no JSON type")


def _quote(text: str) -> str:
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        from json import dumps as encode_basestring_ascii
    quoted: str = encode_basestring_ascii(text)
    return quoted


def _mapping(pairs: Mapping[str, object], indent: str, margin: str) -> str:
    deeper = margin + indent
    return _enclose("{}", [f"{_quote(key)}: {_indented(value, indent, deeper)}" for key, value in pairs.items()],
                    indent, margin)  # fmt: skip


def _list(values: Sequence[object], indent: str, margin: str) -> str:
    return _enclose("[]", [_indented(value, indent, margin + indent) for value in values], indent, margin)


def _enclose(brackets: str, parts: list[str], indent: str, margin: str) -> str:
    if not parts:
        return brackets
    return brackets[0] + margin + indent + ("," + margin + indent).join(parts) + margin + brackets[1]
