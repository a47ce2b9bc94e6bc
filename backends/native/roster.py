"""The list of containers, read from disk and read again only where a file changed."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from backends.errors import Damaged, NotFound
from backends.kernel import procfs
from backends.model import Guest, GuestKind, GuestRef, GuestState, Limits
from backends.native import spec
from backends.native.nat import shown
from backends.native.networks.endpoint import addresses_of
from backends.native.options.ports import parse_ports
from backends.native.record import ContainerRecord, Status
from backends.native.store import CONFIG, RECORD, STATUS, ContainerStore

_FILES = (RECORD, STATUS, CONFIG)
_LIVE = frozenset({GuestState.RUNNING, GuestState.PAUSED, GuestState.STOPPING})
_KEPT = _LIVE | {GuestState.RESTARTING}


@dataclass(slots=True)
class _Entry:
    stamps: tuple[int, ...]
    guest: Guest
    record: ContainerRecord


class Roster:
    """All containers of a store as guests."""

    def __init__(self, store: ContainerStore) -> None:
        self._store = store
        self._entries: dict[str, _Entry] = {}

    def guests(self) -> list[Guest]:
        """Return all containers, oldest first. One that vanishes meanwhile is left out."""
        found = []
        ids = self._store.ids()
        for container_id in ids:
            try:
                found.append(self.guest(container_id))
            except NotFound:
                continue
            except Damaged as error:
                found.append(_unreadable(container_id, error.message))
        for gone in self._entries.keys() - set(ids):
            self._entries.pop(gone, None)
        return sorted(found, key=lambda guest: (guest.created_s or 0.0, guest.name))

    def guest(self, container_id: str) -> Guest:
        """Return one container as it is now. Raises NotFound, Damaged."""
        entry = self._entries.get(container_id)
        stamps = self._stamps(container_id)
        if entry is None or entry.stamps != stamps:
            record = self._store.record(container_id)
            config = self._store.config(container_id)
            entry = _Entry(stamps, _guest(record, self._store.status(container_id), spec.limits_of(config)), record)
            self._entries[container_id] = entry
        return self._with_truth(entry.guest)

    def live(self) -> list[tuple[Guest, tuple[str, ...]]]:
        """Return the containers that live, as last listed, each with the host's ends of its links."""
        entries = list(self._entries.values())
        return [
            (entry.guest, tuple(each.link for each in entry.record.endpoints))
            for entry in entries
            if entry.guest.state in _LIVE
        ]

    def forget(self, container_id: str) -> None:
        """Read this container anew next time."""
        self._entries.pop(container_id, None)

    def _stamps(self, container_id: str) -> tuple[int, ...]:
        folder = self._store.folder(container_id)
        try:
            # Every file is replaced by rename, so a change shows in the inode even within one tick of the clock.
            found = [os.stat(folder / name) for name in _FILES]
        except FileNotFoundError:
            raise NotFound(f"no container {container_id}") from None
        return tuple(part for stat in found for part in (stat.st_ino, stat.st_mtime_ns))

    def _with_truth(self, guest: Guest) -> Guest:
        """What the file says holds while a supervisor holds the life lock; else it died, or the host was restarted."""
        if guest.state in _KEPT:
            if self._store.is_supervised(guest.ref.id):
                return guest
        elif not self._store.is_orphaned(guest.ref.id):
            return guest
        status = self._store.status(guest.ref.id)
        if GuestState(status.state) not in _KEPT and not self._store.is_orphaned(guest.ref.id):
            return _with_status(guest, status)  # it ended in order between the two looks
        if GuestState(status.state) in _KEPT and status.boot_id != procfs.boot_id():
            return _changed(guest, GuestState.STOPPED, "the host was restarted")
        return _changed(guest, GuestState.LOST, "its supervisor died; start, stop, kill or remove cleans up")


def _guest(record: ContainerRecord, status: Status, limits: Limits) -> Guest:
    return Guest(
        ref=GuestRef("native", record.id),
        name=record.name,
        kind=GuestKind.CONTAINER,
        state=GuestState(status.state),
        image=record.image,
        created_s=record.created_s,
        started_s=status.started_s,
        limits=limits,
        pid=status.pid,
        exit_code=status.exit_code,
        oom_kills=status.oom_kills,
        note=status.note,
        addresses=addresses_of(record.endpoints),
        networks=tuple(each.network for each in record.endpoints) or (("host",) if record.network == "host" else ()),
        ports=shown(parse_ports(record.publish)) if record.publish else (),
        health=status.health,
        restarts=status.restarts,
        restart_policy="" if record.restart_policy.name == "no" else str(record.restart_policy),
        labels=record.labels,
    )


def _with_status(guest: Guest, status: Status) -> Guest:
    return replace(
        guest,
        state=GuestState(status.state),
        pid=status.pid,
        exit_code=status.exit_code,
        oom_kills=status.oom_kills,
        note=status.note,
        health=status.health,
        restarts=status.restarts,
    )


def _unreadable(container_id: str, why: str) -> Guest:
    ref = GuestRef("native", container_id)
    return Guest(ref=ref, name=container_id, kind=GuestKind.CONTAINER, state=GuestState.LOST, note=why)


def _changed(guest: Guest, state: GuestState, note: str) -> Guest:
    return replace(guest, state=state, note=note, pid=None, health="")
