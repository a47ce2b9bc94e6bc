"""The changes of limits that can be taken back."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from backends.model import GuestRef, Limits

KEPT = 100


@dataclass(frozen=True, slots=True)
class LimitChange:
    """One change of a guest's limits: the fields that changed, before and after."""

    ref: GuestRef
    before: dict[str, Any]
    after: dict[str, Any]
    group: object = None
    """Changes with the same one (by identity) were one act and are taken back together; None: it stands alone."""


def change_between(ref: GuestRef, old: Limits, new: Limits, group: object = None) -> LimitChange | None:
    """Return what differs; None if nothing does."""
    changed = [name for name in Limits.__dataclass_fields__ if getattr(old, name) != getattr(new, name)]
    if not changed:
        return None
    before, after = ({name: getattr(limits, name) for name in changed} for limits in (old, new))
    return LimitChange(ref, before, after, group)


class UndoStack:
    """Changes done and changes taken back, newest last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: list[LimitChange] = []
        self._undone: list[LimitChange] = []

    def did(self, change: LimitChange) -> None:
        """Take note of a new change; what was taken back of this guest before cannot be made again."""
        with self._lock:
            self._undone[:] = [old for old in self._undone if old.ref != change.ref]
            _push(self._done, change)

    def take_undo(self, ref: GuestRef | None) -> list[LimitChange]:
        """Take from the done ones the newest change of a guest, or for None the newest of all with all its group."""
        with self._lock:
            return _take(self._done, ref)

    def take_redo(self, ref: GuestRef | None) -> list[LimitChange]:
        """Take the same from those taken back."""
        with self._lock:
            return _take(self._undone, ref)

    def undid(self, change: LimitChange) -> None:
        """It was taken back and can be made again."""
        with self._lock:
            _push(self._undone, change)

    def redid(self, change: LimitChange) -> None:
        """It is in force (again) and can be taken back."""
        with self._lock:
            _push(self._done, change)


def _push(stack: list[LimitChange], change: LimitChange) -> None:
    stack.append(change)
    del stack[:-KEPT]


def _take(stack: list[LimitChange], ref: GuestRef | None) -> list[LimitChange]:
    newest = next((change for change in reversed(stack) if ref is None or change.ref == ref), None)
    if newest is None:
        return []
    taken = [newest]
    if ref is None and newest.group is not None:
        taken = [change for change in reversed(stack) if change.group is newest.group]
    stack[:] = [change for change in stack if not any(change is one for one in taken)]
    return taken
