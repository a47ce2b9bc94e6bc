"""Lists of CPUs and memory nodes as the kernel writes them: "0-3,7" (cpuset(7), "List format")."""

from __future__ import annotations

_MOST_DIGITS = 7
_MAX_NUMBER = 64 * 1024


def numbers_of(text: str) -> set[int]:
    """Return the numbers of a list; empty elements are passed over. Raises ValueError."""
    found: set[int] = set()
    for part in text.split(","):
        entry = part.strip(" \t\n")
        if not entry:
            continue
        words = entry.split("-", 1)
        if not all(word.isascii() and word.isdigit() and len(word) <= _MOST_DIGITS for word in words):
            raise ValueError(f"{entry[:40]!r} is no number or range")
        first, last = int(words[0]), int(words[-1])
        if last > _MAX_NUMBER:
            raise ValueError(f"values larger than {_MAX_NUMBER} are not supported")
        if first > last:
            raise ValueError(f"invalid range: {entry}")
        found.update(range(first, last + 1))
    return found
