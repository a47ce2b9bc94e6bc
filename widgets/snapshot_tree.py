"""Snapshots of one guest as a tree."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from backends.model import Snapshot
from widgets.glyphs import GLYPHS
from widgets.line import EMPTY, Line, line
from widgets.line_view import LineView
from widgets.text import clean
from widgets.units import size


class SnapshotTree(LineView):
    """Shows the tree; tells which snapshot is to be restored or removed, and when a new one is wanted."""

    HINTS = (("Enter", "restore"), ("n", "new"), ("D", "remove it"), ("=", "compare"))
    has_cursor = True
    empty_text = "no snapshots; n makes one"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "new snapshot", show=False, id="tree.new"),
        Binding("enter,R", "restore", "take the guest back to this one", show=False, id="tree.restore"),
        Binding("equals_sign", "compare", "what the guest changed since", show=False, id="tree.compare"),
        Binding("D,delete", "remove", "remove this one", show=False, id="tree.remove"),
    ]

    @dataclass
    class Wanted(Message):
        """The user wants something done: "create", "restore", "remove" or "compare"."""

        tree: SnapshotTree
        verb: str
        name: str

        @property
        def control(self) -> SnapshotTree:
            return self.tree

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.snapshots: list[Snapshot] = []

    def show_snapshots(self, snapshots: Sequence[Snapshot]) -> None:
        """Show these."""
        pairs = arrange(snapshots)
        self.snapshots = [snapshot for snapshot, _ in pairs]
        self.cursor = min(self.cursor, max(0, len(pairs) - 1))
        self.show([_line(snapshot, lead) for snapshot, lead in pairs])

    @property
    def current(self) -> Snapshot | None:
        """The one under the cursor."""
        return self.snapshots[self.cursor] if self.cursor < len(self.snapshots) else None

    def action_new(self) -> None:
        self.post_message(self.Wanted(self, "create", ""))

    def action_restore(self) -> None:
        self._want("restore")

    def action_remove(self) -> None:
        self._want("remove")

    def action_compare(self) -> None:
        self._want("compare")

    def _want(self, verb: str) -> None:
        if self.current is not None:
            self.post_message(self.Wanted(self, verb, self.current.name))


def arrange(snapshots: Sequence[Snapshot]) -> list[tuple[Snapshot, str]]:
    """Parents before children, each with the lines that lead to it. A parent that is missing makes a root."""
    names = {snapshot.name for snapshot in snapshots}
    children: dict[str | None, list[Snapshot]] = {}
    for snapshot in sorted(snapshots, key=lambda each: each.created_s):
        parent = snapshot.parent if snapshot.parent in names and snapshot.parent != snapshot.name else None
        children.setdefault(parent, []).append(snapshot)
    out: list[tuple[Snapshot, str]] = []
    seen: set[str] = set()

    def walk(parent: str | None, lead: str) -> None:
        family = children.get(parent, [])
        for index, snapshot in enumerate(family):
            if snapshot.name in seen:
                continue
            seen.add(snapshot.name)
            last = index == len(family) - 1
            # A chain without branches stays flat: a hundred snapshots in a row need no hundred indents.
            branch = "" if parent is None else (GLYPHS.last_branch if last else GLYPHS.branch) + " "
            out.append((snapshot, lead + branch))
            only = parent is None or len(family) == 1
            deeper = lead if only else lead + ("  " if last else GLYPHS.upright + " ")
            walk(snapshot.name, deeper)

    walk(None, "")
    # A ring of parents would be lost otherwise.
    out += [(snapshot, "") for snapshot in snapshots if snapshot.name not in seen]
    return out


def _line(snapshot: Snapshot, lead: str) -> Line:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(snapshot.created_s))
    details = [when]
    if snapshot.size_bytes is not None:
        details.append(size(snapshot.size_bytes))
    if snapshot.with_memory:
        details.append("with memory")
    if snapshot.note:
        details.append(clean(snapshot.note))
    now = f" {GLYPHS.here} the guest stands here" if snapshot.is_current else ""
    return line(" ", (lead, "dim"), (snapshot.name, "strong"), ("  " + ", ".join(details), "dim"), (now, "good"))


__all__ = ["EMPTY", "SnapshotTree", "arrange"]
