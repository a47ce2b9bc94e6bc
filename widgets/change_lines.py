"""What differs between two states of a guest's files."""

from __future__ import annotations

from collections.abc import Sequence

from backends.image import FileChange
from widgets.line import Line, Role, line
from widgets.units import size

_ROLES: dict[str, Role] = {"A": "good", "C": "warn", "D": "bad"}
_WORDS = {"A": "added", "C": "changed", "D": "deleted"}


def change_lines(changes: Sequence[FileChange]) -> list[Line]:
    """One line a path: what became of it, how large it is now, the path."""
    counts = ", ".join(
        f"{count} {_WORDS[kind]}" for kind in "ACD" if (count := sum(each.kind == kind for each in changes))
    )
    lines = [line((f" {counts or 'nothing differs'}", "head"))]
    return lines + [
        line(
            (f" {each.kind} ", _ROLES.get(each.kind, "")),
            (f"{size(each.size_bytes) if each.size_bytes is not None else '':>6}  ", "dim"),
            each.path,
        )
        for each in changes
    ]
