"""Who is on which network, and under which names: read from the records of the containers that live.

Nothing is kept that could go out of date: a record is read again when its file has changed, which is looked for at
most every 20 ms.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from backends.errors import InnkeeperError
from backends.native.record import ContainerRecord
from backends.native.resolver.message import address_in
from backends.native.store import ContainerStore

HOST_NAMES = frozenset({"host.internal", "host.docker.internal", "host.containers.internal"})
"""The host, as a container reaches it."""

_LOOK_AGAIN_S = 0.02


@dataclass(frozen=True, slots=True)
class _Member:
    stamp: tuple[int, int]
    """Time of change and inode of its record: it is replaced as a whole."""

    record: ContainerRecord


class Directory:
    """The containers that live, by network and name."""

    def __init__(self, store: ContainerStore) -> None:
        self._store = store
        self._members: dict[str, _Member | None] = {}
        self._looked_s = float("-inf")
        self._by_name: dict[tuple[str, str], list[str]] = {}
        """(network, name in lower case) → addresses."""

        self._by_address: dict[tuple[str, str], list[str]] = {}

    def add(self, container_id: str) -> None:
        """A container has come."""
        self._members[container_id] = None
        self._looked_s = float("-inf")

    def remove(self, container_id: str) -> None:
        """It has gone."""
        self._members.pop(container_id, None)
        self._index()

    def addresses(self, asker: str, name: str) -> list[str] | None:
        """Return the addresses of a name, as the asker reaches them; None: no container of its networks has it."""
        record = self._record(asker)
        if record is None:
            return None
        if name in HOST_NAMES:
            return [
                gateway
                for each in record.endpoints
                if not each.internal
                for gateway in (each.gateway, each.gateway6)
                if gateway
            ] or None
        found = [address for each in record.endpoints for address in self._by_name.get((each.network, name), ())]
        return list(dict.fromkeys(found)) or None

    def names(self, asker: str, name: str) -> list[str] | None:
        """Return the names of an address that is written as one (4.3.2.1.in-addr.arpa); None: none of ours."""
        address, record = address_in(name), self._record(asker)
        if address is None or record is None:
            return None
        found = [name for each in record.endpoints for name in self._by_address.get((each.network, address), ())]
        return list(dict.fromkeys(found)) or None

    def has_way_out(self, asker: str) -> bool:
        """Say whether others may be asked for it: one that has no way out shall not have one through names."""
        record = self._record(asker)
        return record is not None and any(not each.internal for each in record.endpoints)

    def servers(self, asker: str) -> tuple[str, ...]:
        """Return the name servers it was given of its own."""
        record = self._record(asker)
        return tuple(record.dns) if record is not None else ()

    def _record(self, container_id: str) -> ContainerRecord | None:
        self._look()
        member = self._members.get(container_id)
        return member.record if member is not None else None

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_AGAIN_S:
            return
        self._looked_s = now_s
        changed = False
        for container_id, member in self._members.items():
            fresh = self._read(container_id, member)
            if fresh is not member:
                self._members[container_id] = fresh
                changed = True
        if changed:
            self._index()

    def _read(self, container_id: str, member: _Member | None) -> _Member | None:
        try:
            found = (self._store.folder(container_id) / "container.json").stat()
            stamp = found.st_mtime_ns, found.st_ino
            if member is not None and member.stamp == stamp:
                return member
            return _Member(stamp, self._store.record(container_id))
        except (InnkeeperError, OSError):  # removed, or damaged: as it was
            return member

    def _index(self) -> None:
        self._by_name, self._by_address = {}, {}
        for member in self._members.values():
            if member is None:
                continue
            for each in member.record.endpoints:
                for name in names_of(member.record, each.aliases):
                    for spelled in (name.lower(), f"{name}.{each.network}".lower()):
                        self._by_name.setdefault((each.network, spelled), []).extend(each.addresses)
                for address in each.addresses:
                    key = (each.network, address)
                    self._by_address.setdefault(key, []).append(f"{member.record.name}.{each.network}")


def names_of(record: ContainerRecord, aliases: Iterable[str]) -> list[str]:
    """Return the names of a container on a network, each once."""
    return list(dict.fromkeys((record.name, *aliases, record.id)))
