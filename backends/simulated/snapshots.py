"""A guest's snapshots as a tree."""

from __future__ import annotations

from dataclasses import replace

from backends.errors import AlreadyExists, NotFound, UsageError
from backends.model import Snapshot


class SnapshotTree:
    """Snapshots by name; the current one is what the guest's state descends from."""

    def __init__(self) -> None:
        self._by_name: dict[str, Snapshot] = {}
        self._current: str | None = None

    def all(self) -> list[Snapshot]:
        """Return all, parents before children."""
        found: list[Snapshot] = []
        waiting = list(self._by_name.values())
        while waiting:
            known = {snapshot.name for snapshot in found} | {None}
            found += [snapshot for snapshot in waiting if snapshot.parent in known]
            waiting = [snapshot for snapshot in waiting if snapshot.parent not in known]
        return [replace(snapshot, is_current=snapshot.name == self._current) for snapshot in found]

    def create(self, name: str, created_s: float, size_bytes: int, *, with_memory: bool) -> Snapshot:
        """Add one below the current one. Raises AlreadyExists, UsageError."""
        if not name:
            raise UsageError("a snapshot needs a name")
        if name in self._by_name:
            raise AlreadyExists(f"there is already a snapshot {name!r}")
        snapshot = Snapshot(name, created_s, self._current, size_bytes=size_bytes, with_memory=with_memory)
        self._by_name[name], self._current = snapshot, name
        return replace(snapshot, is_current=True)

    def restore(self, name: str) -> None:
        """Make it the current one. Raises NotFound."""
        self._current = self.get(name).name

    def remove(self, name: str) -> None:
        """Take one out; its children become its parent's. Raises NotFound."""
        parent = self.get(name).parent
        del self._by_name[name]
        for child in [snapshot for snapshot in self._by_name.values() if snapshot.parent == name]:
            self._by_name[child.name] = replace(child, parent=parent)
        if self._current == name:
            self._current = parent

    def get(self, name: str) -> Snapshot:
        """Return one. Raises NotFound."""
        if name not in self._by_name:
            raise NotFound(f"there is no snapshot {name!r}")
        return self._by_name[name]
