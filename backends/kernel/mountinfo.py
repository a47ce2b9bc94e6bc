"""What is mounted where, as /proc/self/mountinfo tells it (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from typing import NamedTuple


class MountEntry(NamedTuple):
    """One line."""

    root: str
    """Which folder of the file system is seen: "/" for all of it."""

    mount_point: str
    fstype: str
    source: str
    super_options: tuple[str, ...]


def parse(text: str) -> list[MountEntry]:
    """Return the entries, in the order in which they were mounted."""
    found = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, words = left.split(" "), right.split(" ")
        if separator and len(fields) >= 6 and len(words) >= 3:
            options = tuple(words[2].split(","))
            found.append(MountEntry(_plain(fields[3]), _plain(fields[4]), words[0], _plain(words[1]), options))
    return found


def read_mountinfo() -> list[MountEntry]:
    """Return what this process sees."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return parse(lines.read())


def _plain(text: str) -> str:
    """Undo the octal escapes (blank, tab, newline, backslash)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text) if "\\" in text else text
