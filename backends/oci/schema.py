"""Checks of JSON values, put together like the values themselves: objects, lists, numbers, words.

A check takes a value and returns nothing, or raises Refused, which learns on its way up where the value is
("process.rlimits[0].type"). Plain functions, no library: docker's config.json takes well under a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from backends import quick_json

Check = Callable[[Any], None]


class Refused(Exception):
    """What is wrong with a value, and where it is."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place

    def within(self, name: str) -> Refused:
        """Put the name of what holds the value in front of the place."""
        dot = "." if self.place and not self.place.startswith("[") else ""
        self.place = f"{name}{dot}{self.place}"
        return self

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


def shown(value: object) -> str:
    """Return a value as an error message shows it: JSON, and short."""
    text = quick_json.dumps(value) if isinstance(value, (str, int, float)) else _kind(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def boolean(value: Any) -> None:
    """Take true or false."""
    if type(value) is not bool:
        raise Refused(f"must be true or false, not {shown(value)}")


def integer(lowest: int, highest: int) -> Check:
    """Take whole numbers of a range; 1.0 and true are none."""

    def check(value: Any) -> None:
        if type(value) is not int:
            raise Refused(f"must be a whole number, not {shown(value)}")
        if not lowest <= value <= highest:
            raise Refused(f"must be {lowest} to {highest}, not {shown(value)}")

    return check


uint16 = integer(0, 2**16 - 1)
uint32 = integer(0, 2**32 - 1)
uint64 = integer(0, 2**64 - 1)
int32 = integer(-(2**31), 2**31 - 1)
int64 = integer(-(2**63), 2**63 - 1)


def any_string(value: Any) -> None:
    """Take every string that can be written."""
    if type(value) is not str:
        raise Refused(f"must be a string, not {shown(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refused("holds what is no character") from None


def string(value: Any) -> None:
    """Take strings that the kernel can be given: without NUL."""
    any_string(value)
    if "\0" in value:
        raise Refused("contains null byte")


def filled(value: Any) -> None:
    """Take strings that are not empty."""
    string(value)
    if not value:
        raise Refused("must not be empty")


def absolute(value: Any) -> None:
    """Take absolute paths."""
    string(value)
    if not value.startswith("/"):
        raise Refused(f"must be an absolute path, not {shown(value)}")


def absolute_or_empty(value: Any) -> None:
    """Take absolute paths and ""."""
    string(value)
    if value and not value.startswith("/"):
        raise Refused(f"must be an absolute path, not {shown(value)}")


def formed(is_one: Callable[[str], bool], what: str) -> Check:
    """Take strings of a form, which `what` tells."""

    def check(value: Any) -> None:
        string(value)
        if not is_one(value):
            raise Refused(f"{shown(value)} is not {what}")

    return check


def word(allowed: Collection[str], wording: str = "") -> Check:
    """Take one of some words. `wording` is runc's sentence where callers know it, with {} for the value."""

    def check(value: Any) -> None:
        string(value)
        if value not in allowed:
            known = ", ".join(entry for entry in allowed if entry)
            raise Refused(wording.format(value[:60]) if wording else f"{shown(value)} is none of {known}")

    return check


def array(of: Check, *, filled_with: str = "") -> Check:
    """Take lists; `filled_with` is the sentence that refuses an empty one."""

    def check(value: Any) -> None:
        if type(value) is not list:
            raise Refused(f"must be an array, not {shown(value)}")
        if filled_with and not value:
            raise Refused(filled_with)
        index = 0
        try:
            for item in value:
                of(item)
                index += 1
        except Refused as error:
            raise error.within(f"[{index}]") from None

    return check


def record(fields: Mapping[str, Check], required: Mapping[str, str] | None = None) -> Check:
    """Take objects: every known property is checked, unknown ones are ignored as the specification asks.

    required maps the properties that must be there to the sentence that says so; "" for the usual one.
    """
    needed = required or {}

    def check(value: Any) -> None:
        if type(value) is not dict:
            raise Refused(f"must be an object, not {shown(value)}")
        for name, sentence in needed.items():
            if name not in value:
                raise Refused(sentence or "is required", name)
        for name, item in value.items():
            rule = fields.get(name)
            if rule is not None:
                try:
                    rule(item)
                except Refused as error:
                    raise error.within(name) from None

    return check


def mapping(of: Check, key: Check = any_string) -> Check:
    """Take objects whose properties are names of the user's choice."""

    def check(value: Any) -> None:
        if type(value) is not dict:
            raise Refused(f"must be an object, not {shown(value)}")
        for name, item in value.items():
            try:
                key(name)
                of(item)
            except Refused as error:
                raise error.within(f"[{shown(name)}]") from None

    return check
