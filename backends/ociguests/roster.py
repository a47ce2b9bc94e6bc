"""The list of containers, read from the state folders of all roots, and again only where a file changed."""

from __future__ import annotations

import calendar
import os
import time
from dataclasses import dataclass, replace
from typing import Any

from backends.errors import InnkeeperError, NotFound
from backends.kernel.cgroup import Cgroup, CgroupHost, GuestVanished
from backends.model import Guest, GuestKind, GuestRef, GuestState, Limits
from backends.oci import roots, state
from backends.oci.state import Container
from backends.ociguests.naming import Naming, naming_of

NAME = "oci"


@dataclass(slots=True)
class Entry:
    """One container and what does not change while its files stay."""

    stamp: tuple[int, ...]
    container: Container
    config: dict[str, Any]
    naming: Naming
    guest: Guest


class Roster:
    """All containers of `inn oci`, whoever made them."""

    def __init__(self, folder: str, host: CgroupHost) -> None:
        self._folder = folder
        """Of the links to the roots."""

        self._host = host
        self._entries: dict[str, Entry] = {}

    def guests(self) -> list[Guest]:
        """Return all, oldest first; one that vanishes meanwhile is left out."""
        entries = {}
        for root in roots.known(self._folder):
            for container_id in _ids(root):
                entry = self._entry(root, container_id)
                if entry is not None:
                    entries[entry.guest.ref.id] = entry
        self._entries = entries
        found = [self._with_truth(entry) for entry in entries.values()]
        return sorted(found, key=lambda guest: (guest.created_s or 0.0, guest.name))

    def entry(self, ref: GuestRef) -> Entry:
        """Return one as it is now. Raises NotFound."""
        known = self._entries.get(ref.id)
        if known is None:
            self.guests()
            known = self._entries.get(ref.id)
        entry = self._entry(known.container.root, known.container.id) if known is not None else None
        if entry is None:
            raise NotFound(f"no container {ref.id}")
        entry.guest = self._with_truth(entry)
        self._entries[ref.id] = entry
        return entry

    def live(self) -> list[Entry]:
        """Return those that live, as last listed."""
        return [entry for entry in self._entries.values() if entry.guest.state.is_live]

    def group(self, entry: Entry) -> Cgroup | None:
        """Return its control group, in the hierarchies that it was made in."""
        known = entry.container.state.get("cgroup") or {}
        return Cgroup(self._host, known["path"], known["folders"]) if known.get("folders") else None

    def _entry(self, root: str, container_id: str) -> Entry | None:
        key = _key(root, container_id)
        known = self._entries.get(key)
        try:
            stamp = _stamp(f"{root}/{container_id}")
            if known is not None and known.stamp == stamp:
                return known
            container = state.load(root, container_id)
            config = container.config()
        except (OSError, InnkeeperError, ValueError):
            return None
        naming = naming_of(container_id, config, container.state["bundle"])
        return Entry(stamp, container, config, naming, _guest(key, container, naming))

    def _with_truth(self, entry: Entry) -> Guest:
        container = entry.container
        try:
            now = GuestState(container.status())
        except InnkeeperError:
            now = GuestState.STOPPED
        is_live = now in (GuestState.RUNNING, GuestState.PAUSED)
        note = f"kept by {entry.naming.maker}" if entry.naming.maker else ""
        found = replace(entry.guest, state=now, pid=container.pid if now != GuestState.STOPPED else None, note=note)
        if is_live:
            found = replace(found, limits=self._limits(entry), oom_kills=self._oom_kills(entry))
        entry.guest = found
        return found

    def _limits(self, entry: Entry) -> Limits:
        group = self.group(entry)
        try:
            return group.limits() if group is not None else Limits()
        except GuestVanished:
            return Limits()

    def _oom_kills(self, entry: Entry) -> int | None:
        group = self.group(entry)
        return group.oom_kills() if group is not None else None


def _guest(key: str, container: Container, naming: Naming) -> Guest:
    known = container.state
    return Guest(
        ref=GuestRef(NAME, key),
        name=naming.name,
        kind=GuestKind.CONTAINER,
        state=GuestState.UNKNOWN,
        image=naming.image,
        created_s=_seconds(known.get("created", "")),
        started_s=known.get("started_s"),
        labels=dict(known.get("annotations") or {}),
    )


def _key(root: str, container_id: str) -> str:
    """An id is unique within its root only."""
    return container_id if root == state.default_root() else f"{container_id}@{root.strip('/').replace('/', '-')}"


def _ids(root: str) -> list[str]:
    try:
        return [name for name in os.listdir(root) if not name.startswith(state.DRAFT)]
    except OSError:
        return []


def _stamp(folder: str) -> tuple[int, ...]:
    """Both files are replaced by rename, so a change shows in the inode."""
    found = [os.stat(f"{folder}/{name}") for name in (state.STATE, state.CONFIG)]
    return tuple(part for one in found for part in (one.st_ino, one.st_mtime_ns))


def _seconds(text: str) -> float | None:
    try:
        return float(calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None
