"""Which ids of the host a container's users are: the maps, and the ranges that are lent for them.

::

    auto   a range of subordinate ids of its own: nobody on the host, and no other container, has one of them
    keep   as auto, but the caller is himself inside as well (a plain user's, for his own files)
    host   no user namespace; a plain user's containers: root inside is the caller, the others are subordinate ids

STATE/userns.json holds the ranges by container id. Ranges come from /etc/subuid and /etc/subgid; where they name
none for us, root takes from those that systemd sets aside for containers, clear of everybody's in those files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backends.errors import InnkeeperError, Unsupported, UsageError
from backends.kernel.cgroup_file import read_text
from backends.kernel.userns import Range, all_subordinates, name_of, subordinates
from backends.native.network import locked
from backends.native.store import write_file

SUBUID, SUBGID = "/etc/subuid", "/etc/subgid"
SIZE = 65536
_LEAST = 1024
_OWNERS = ("innkeeper", "containers")
"""Whose subordinate ids root's containers have; `containers` is podman's and the man page's name."""

_SET_ASIDE = Range(524288, 1879048192 - 524288)
"""systemd's range for containers (its UIDS-GIDS.md)."""


@dataclass(frozen=True, slots=True)
class Maps:
    """`linux.uidMappings` and `linux.gidMappings`."""

    uids: list[dict[str, int]]
    gids: list[dict[str, int]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose container it is."""

    uid: int
    gid: int
    name: str = ""

    @classmethod
    def here(cls) -> Caller:
        """Return who runs this process."""
        return cls(os.geteuid(), os.getegid(), name_of(os.geteuid()))


def auto_maps(lease: Range) -> Maps:
    """Map the container's ids from 0 on to a range."""
    return Maps([_entry(0, lease.first, lease.count)], [_entry(0, lease.first, lease.count)])


def keep_maps(caller: Caller, lease: Range) -> Maps:
    """Map the same, but the caller to himself. Raises UsageError where that means nothing."""
    if caller.uid == 0:
        raise UsageError("--userns keep is for plain users: root would be the host's root inside", hint="--userns auto")
    return Maps(_around(caller.uid, lease), _around(caller.gid, lease))


def plain_maps(caller: Caller, uids: Sequence[Range], gids: Sequence[Range]) -> Maps:
    """Map root to a plain user, and the other ids to his subordinate ones, as far as they go."""
    return Maps(_rootless(caller.uid, uids), _rootless(caller.gid, gids))


def _entry(inside: int, outside: int, count: int) -> dict[str, int]:
    return {"containerID": inside, "hostID": outside, "size": count}


def _around(own_id: int, lease: Range) -> list[dict[str, int]]:
    below = min(own_id, lease.count)
    entries = [_entry(0, lease.first, below), _entry(own_id, own_id, 1)]
    entries.append(_entry(own_id + 1, lease.first + below, lease.count - below))
    return [entry for entry in entries if entry["size"] > 0]


def _rootless(own_id: int, ranges: Iterable[Range]) -> list[dict[str, int]]:
    entries, inside = [_entry(0, own_id, 1)], 1
    for found in ranges:
        entries.append(_entry(inside, found.first, found.count))
        inside += found.count
    return entries


def maps_for(mode: str, caller: Caller, leases: Leases, container_id: str) -> Maps | None:
    """Return the maps of a new container, taking a range where it needs one; None: no user namespace.

    Raises UsageError and InnkeeperError.
    """
    if mode == "host" and caller.uid == 0:
        return None
    if _is_nested():
        text = f"--userns {mode} needs root: nobody else may show an image's files with other owners"
        raise Unsupported(text, hint="a plain user's containers have a user namespace as it is")
    if mode == "host":
        return plain_maps(caller, *(subordinates(path, caller.name, caller.uid) for path in (SUBUID, SUBGID)))
    if mode == "keep":
        keep_maps(caller, Range(0, 1))  # says no before anything is taken
        return keep_maps(caller, leases.take(container_id))
    return auto_maps(leases.take(container_id))


def _is_nested() -> bool:
    return (read_text("/proc/self/uid_map") or "").split()[:2] not in (["0", "0"], [])


class Leases:
    """The ranges of one state folder's containers; no two overlap."""

    def __init__(self, state_dir: Path, caller: Caller | None = None) -> None:
        self._path, self._lock = state_dir / "userns.json", state_dir / "userns.lock"
        self._caller = caller or Caller.here()

    def take(self, container_id: str) -> Range:
        """Return the range of a container, a new one if it has none. Raises InnkeeperError when none is left."""
        with locked(self._lock):
            leases = self._read()
            if container_id not in leases:
                leases[container_id] = _free(self.pool(), leases.values(), self._size())
                self._write(leases)
            return leases[container_id]

    def release(self, container_id: str) -> None:
        """Give a range back."""
        with locked(self._lock):
            leases = self._read()
            if leases.pop(container_id, None) is not None:
                self._write(leases)

    def keep_only(self, container_ids: Collection[str]) -> None:
        """Give back the ranges of all other containers: of what was only half made."""
        with locked(self._lock):
            leases = self._read()
            kept = {name: lease for name, lease in leases.items() if name in container_ids}
            if kept != leases:
                self._write(kept)

    def all(self) -> dict[str, Range]:
        """Return the ranges by container id."""
        return self._read()

    def pool(self) -> list[Range]:
        """Return what may be lent: both as users and as groups."""
        if self._caller.uid != 0:
            both = (subordinates(path, self._caller.name, self._caller.uid) for path in (SUBUID, SUBGID))
            return _common(*both)
        for owner in _OWNERS:
            found = _common(subordinates(SUBUID, owner, -1), subordinates(SUBGID, owner, -1))
            if found:
                return found
        others = [found for path in (SUBUID, SUBGID) for _, found in all_subordinates(path)]
        return _without(_SET_ASIDE, others)

    def _size(self) -> int:
        if self._caller.uid == 0:
            return SIZE
        # A plain user has 65536 as a rule: enough for sixteen containers at once.
        return max(_LEAST, sum(found.count for found in self.pool()) // 16)

    def _read(self) -> dict[str, Range]:
        try:
            raw = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return {name: Range(first, count) for name, (first, count) in raw.items()}

    def _write(self, leases: dict[str, Range]) -> None:
        write_file(self._path, json.dumps({name: [lease.first, lease.count] for name, lease in leases.items()}))


def _free(pool: Sequence[Range], taken: Iterable[Range], size: int) -> Range:
    used = sorted((lease.first, lease.first + lease.count) for lease in taken)
    for part in pool:
        first = part.first
        for begin, end in used:
            if first + size <= begin:
                break
            first = max(first, end) if end > first else first
        if first + size <= part.first + part.count:
            return Range(first, size)
    hint = "give this user more in /etc/subuid and /etc/subgid, or remove containers that are not needed"
    raise InnkeeperError(f"no range of {size} subordinate ids is left for a user namespace", hint=hint)


def _common(left: Sequence[Range], right: Sequence[Range]) -> list[Range]:
    found = []
    for one in left:
        for other in right:
            first = max(one.first, other.first)
            end = min(one.first + one.count, other.first + other.count)
            if first < end:
                found.append(Range(first, end - first))
    return found


def _without(whole: Range, taken: Iterable[Range]) -> list[Range]:
    found, first = [], whole.first
    for part in sorted(taken, key=lambda part: part.first):
        if first < part.first:
            found.append(Range(first, min(part.first, whole.first + whole.count) - first))
        first = max(first, part.first + part.count)
    if first < whole.first + whole.count:
        found.append(Range(first, whole.first + whole.count - first))
    return [part for part in found if part.count > 0]
