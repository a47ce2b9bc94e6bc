"""What is mounted where, as /proc/self/mountinfo tells it (proc_pid_mountinfo(5))."""

from __future__ import annotations

from typing import NamedTuple

_OCTAL = frozenset("01234567")


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
            found.append(MountEntry(unescaped(fields[3]), unescaped(fields[4]), words[0], unescaped(words[1]), options))
    return found


def read_mountinfo() -> list[MountEntry]:
    """Return what this process sees."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return parse(lines.read())


def unescaped(text: str) -> str:
    """Undo the octal escapes (blank, tab, newline, backslash); a backslash before anything else stays."""
    first, *rest = text.split("\\")
    return first + "".join(
        chr(int(part[:3], 8)) + part[3:] if len(part) >= 3 and _OCTAL.issuperset(part[:3]) else f"\\{part}"
        for part in rest
    )
