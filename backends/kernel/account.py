"""A container's users, as its own /etc/passwd and /etc/group have them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from backends.kernel import linux

_MAX_TABLE = 4 << 20
_OF_THE_KERNEL = frozenset({linux.PROC_SUPER_MAGIC, 0x62656572, 0x64626720, 0x74726163})
"""procfs, sysfs, debugfs, tracefs: their files look regular, and some never end."""

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
    row = _find("/etc/passwd", 7, wanted_user)
    uid = _number(row[2]) if row else _number(wanted_user)
    if uid is None:
        raise LookupError(f"no user {wanted_user!r} in the container's /etc/passwd")
    home = (row[5] if row else "") or "/"
    if wanted_group:
        found = _find("/etc/group", 4, wanted_group)
        gid = _number(found[2]) if found else _number(wanted_group)
        if gid is None:
            raise LookupError(f"no group {wanted_group!r} in the container's /etc/group")
        return Account(uid, gid, (), home)
    gid = (_number(row[3]) if row else 0) or 0
    return Account(uid, gid, _groups_of(row[0], gid) if row else (gid,), home)


def group_numbers(names: Iterable[str]) -> tuple[int, ...]:
    """Return the numbers of groups, as the container's /etc/group has them. Raises LookupError."""
    found = []
    for name in names:
        row = _find("/etc/group", 4, name)
        number = _number(row[2]) if row else None
        if number is None:
            raise LookupError(f"no group {name!r} in the container's /etc/group")
        found.append(number)
    return tuple(found)


def _groups_of(name: str, gid: int) -> tuple[int, ...]:
    wanted = {gid: None}
    for row in _rows("/etc/group", 4):
        number = _number(row[2]) if name in row[3].split(",") else None
        if number is not None and len(wanted) < _MAX_GROUPS:
            wanted[number] = None
    return tuple(wanted)


def _rows(path: str, columns: int) -> Iterator[list[str]]:
    """Yield the rows of a file that other people wrote, each with so many columns or more; none if it is no file.

    One at a time: as lists of texts a long file takes many times the memory that it has on disk.
    """
    try:
        # A fifo must not hold us up, nor a device or an endless file be read.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return
    if not stat.S_ISREG(os.fstat(fd).st_mode) or linux.filesystem_type(fd) in _OF_THE_KERNEL:
        os.close(fd)
        return
    with os.fdopen(fd, "rb") as file:
        left = _MAX_TABLE
        while left > 0 and (line := file.readline(left)):
            left -= len(line)
            if line.startswith(b"#"):
                continue
            row = line.rstrip(b"\n").decode("utf-8", "replace").split(":")
            if len(row) >= 3 and _number(row[2]) is not None:
                yield row + [""] * (columns - len(row))


def _find(path: str, columns: int, wanted: str) -> list[str] | None:
    number, of_number = _number(wanted), None
    for row in _rows(path, columns):
        if row[0] == wanted:
            return row
        if of_number is None and number is not None and _number(row[2]) == number:
            of_number = row
    return of_number


def _number(text: str) -> int | None:
    """Return a user's or group's number, None for what is none that the kernel has."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    number = int(text)
    return number if number < 2**32 - 1 else None
