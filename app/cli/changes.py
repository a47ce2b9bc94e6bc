"""Paths that differ between two states of a guest, as `inn diff` and `inn snapshot diff` print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.cli.context import Context
    from backends.image import FileChange


def print_changes(context: Context, found: Sequence[FileChange], *, as_json: bool) -> None:
    """Print a line each in docker's letters, or an array of objects."""
    if as_json:
        context.out.json([{"kind": each.kind, "path": each.path, "size_bytes": each.size_bytes} for each in found])
        return
    for each in found:
        context.out.line(f"{each.kind} {each.path}")
