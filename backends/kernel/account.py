"""A container's users, as its own /etc/passwd and /etc/group have them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

_MAX_TABLE = 16 << 20
_MAX_GROUPS = 65536
"""NGROUPS_MAX of the kernel."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user as the container's own /etc/passwd and /etc/group have it."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def look_up(user: str) -> Account:
    """Find "uid", "uid:gid", "name" or "name:group" in /etc/passwd and /etc/group as seen from here.

    Runs after the pivot, so the files are the container's and no symlink of theirs leads out. Nothing of
    the image's is executed for it. Raises LookupError for a name that is not there.
    """
    wanted_user, _, wanted_group = user.partition(":")
    row = _find(_table("/etc/passwd", 7), wanted_user)
    uid = _number(row[2]) if row else _number(wanted_user)
    if uid is None:
        raise LookupError(f"no user {wanted_user!r} in the container's /etc/passwd")
    home = (row[5] if row else "") or "/"
    groups = _table("/etc/group", 4)
    if wanted_group:
        found = _find(groups, wanted_group)
        gid = _number(found[2]) if found else _number(wanted_group)
        if gid is None:
            raise LookupError(f"no group {wanted_group!r} in the container's /etc/group")
        return Account(uid, gid, (), home)
    gid = (_number(row[3]) if row else 0) or 0
    more = (_number(group[2]) for group in groups if row and row[0] in group[3].split(","))
    wanted = dict.fromkeys((gid, *(number for number in more if number is not None)))
    return Account(uid, gid, tuple(wanted)[:_MAX_GROUPS], home)


def group_numbers(names: Iterable[str]) -> tuple[int, ...]:
    """Return the numbers of groups, as the container's /etc/group has them. Raises LookupError."""
    found, table = [], None
    for name in names:
        table = _table("/etc/group", 4) if table is None else table
        row = _find(table, name)
        number = _number(row[2]) if row else None
        if number is None:
            raise LookupError(f"no group {name!r} in the container's /etc/group")
        found.append(number)
    return tuple(found)


def _table(path: str, columns: int) -> list[list[str]]:
    """Return the rows of a file that other people wrote, each with so many columns or more; none if it is no file."""
    try:
        # A fifo must not hold us up, nor a device or an endless file be read.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return []
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        text = file.read(_MAX_TABLE).decode("utf-8", "replace")
    rows = (line.split(":") for line in text.split("\n") if line and not line.startswith("#"))
    return [row + [""] * (columns - len(row)) for row in rows if len(row) >= 3 and _number(row[2]) is not None]


def _find(table: list[list[str]], wanted: str) -> list[str] | None:
    named = next((row for row in table if row[0] == wanted), None)
    number = _number(wanted)
    if named is not None or number is None:
        return named
    return next((row for row in table if _number(row[2]) == number), None)


def _number(text: str) -> int | None:
    """Return a user's or group's number, None for what is none that the kernel has."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    number = int(text)
    return number if number < 2**32 - 1 else None
