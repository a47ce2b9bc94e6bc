"""Who owns files of a container's layers, as the container sees it.

A container with a user namespace writes with the host's ids that its users have. Whoever reads its layers and not its
overlay has to turn them back: an image knows nothing of the host's ids.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from backends.kernel.idmap import IdRange
from backends.kernel.mapped_overlay import Owners

_NOBODY = 65534
"""What the kernel shows for an id that has none inside."""

_CAPABILITIES_V2, _CAPABILITIES_V3 = 0x02000000, 0x03000000
_REVISION_MASK = 0xFF000000
_V3_BYTES = 24


def owners_in(config: Mapping[str, Any]) -> Owners | None:
    """Return the users and groups of a container's user namespace, or None if it has none."""
    uids, gids = (config.get("linux", {}).get(name) for name in ("uidMappings", "gidMappings"))
    if not uids or not gids:
        return None
    return tuple(map(_of_entry, uids)), tuple(map(_of_entry, gids))


def ids_inside(found: os.stat_result, owners: Owners | None) -> tuple[int, int]:
    """Return the user and group of a file of a layer that was written with these owners (None: with no others)."""
    if owners is None:
        return found.st_uid, found.st_gid
    uids, gids = owners
    return _inside(found.st_uid, uids), _inside(found.st_gid, gids)


def capabilities_inside(value: bytes, owners: Owners | None) -> bytes:
    """Return a file's security.capability as the container sees it.

    Those that its root gave away are good in its user namespace only, whose root is named in them (version 3, see
    capabilities(7)); inside they are plain ones.
    """
    if owners is None or len(value) != _V3_BYTES:
        return value
    magic, *sets, root_id = struct.unpack("<6I", value)
    if magic & _REVISION_MASK != _CAPABILITIES_V3 or _inside(root_id, owners[0]) != 0:
        return value
    return struct.pack("<5I", _CAPABILITIES_V2 | magic & ~_REVISION_MASK, *sets)


def _inside(on_disk: int, ranges: Sequence[IdRange]) -> int:
    for inside, outside, count in ranges:
        if outside <= on_disk < outside + count:
            return inside + on_disk - outside
    return _NOBODY


def _of_entry(entry: Mapping[str, int]) -> IdRange:
    return entry["containerID"], entry["hostID"], entry["size"]
