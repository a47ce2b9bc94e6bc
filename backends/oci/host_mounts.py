"""Mounts that the runtime makes for a container, since its init cannot: with mapped owners, or out of init's reach."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from backends.kernel import idmap, mount_options
from backends.kernel import mount_calls as calls
from backends.kernel.idmap import IdRange
from backends.kernel.mount_options import MountOptions
from backends.kernel.mounts import MountFailed, said
from backends.oci.errors import ConfigInvalid

if TYPE_CHECKING:
    from backends.oci.rootfs import Scene

Ranges = tuple[IdRange, ...]


def open_all(scene: Scene) -> dict[int, int]:
    """Return descriptors by the index of the mount. Raises Unsupported, ConfigInvalid, MountFailed."""
    fds: dict[int, int] = {}
    spaces: dict[tuple[Ranges, Ranges] | str, int] = {}
    try:
        for index, entry in enumerate(scene.mounts):
            try:
                fd = _open(scene, index, entry, spaces)
            except OSError as error:
                source, place = entry.get("source", ""), entry["destination"]
                raise MountFailed(source, place, said(error), error.errno) from error
            if fd is not None:
                fds[index] = fd
    except BaseException:
        for fd in fds.values():
            os.close(fd)
        raise
    finally:
        for fd in spaces.values():
            os.close(fd)
    return fds


def _open(
    scene: Scene, index: int, entry: Mapping[str, Any], spaces: dict[tuple[Ranges, Ranges] | str, int]
) -> int | None:
    wanted = mount_options.parse(entry.get("options") or ())
    source = os.path.join(scene.bundle, entry.get("source") or "")
    if wanted.idmap or entry.get("uidMappings") or entry.get("gidMappings"):
        if not wanted.is_bind:
            raise ConfigInvalid(f"mounts[{index}]: id-mapped mounts are only supported for bind-mounts")
        space = _user_namespace(scene, index, entry, spaces)
        # "idmap" maps the mount itself, "ridmap" also those below it.
        below = wanted.idmap == "ridmap"
        return idmap.mapped_tree(source, space, recursive=wanted.is_recursive, map_below=below)
    if wanted.is_bind and not wanted.is_remount and scene.has_userns and not _is_reachable(scene, source):
        return _plain(source, wanted)
    return None


def _plain(source: str, wanted: MountOptions) -> int | None:
    with suppress(PermissionError):  # a runtime that is not root: its init can reach no less than itself
        return calls.open_tree(source, recursive=wanted.is_recursive)
    return None


def _user_namespace(
    scene: Scene, index: int, entry: Mapping[str, Any], spaces: dict[tuple[Ranges, Ranges] | str, int]
) -> int:
    uids, gids = _ranges(entry.get("uidMappings")), _ranges(entry.get("gidMappings"))
    if uids and gids:
        key: tuple[Ranges, Ranges] | str = (uids, gids)
    elif not uids and not gids and scene.has_userns:
        key = _container_namespace(scene)
    else:
        raise ConfigInvalid(f"mounts[{index}]: id-mapped mounts must have both uid and gid mappings specified")
    if key not in spaces:
        made = os.open(key, os.O_RDONLY | os.O_CLOEXEC) if isinstance(key, str) else idmap.user_namespace(*key)
        spaces[key] = made
    return spaces[key]


def _container_namespace(scene: Scene) -> tuple[Ranges, Ranges] | str:
    """Return what the container's own user namespace is: one that exists, by path, or the maps it will have."""
    for entry in scene.linux.get("namespaces") or ():
        if entry["type"] == "user" and entry.get("path"):
            return str(entry["path"])
    return _ranges(scene.linux.get("uidMappings")), _ranges(scene.linux.get("gidMappings"))


def _ranges(entries: Sequence[Mapping[str, int]] | None) -> Ranges:
    return tuple((entry["containerID"], entry["hostID"], entry["size"]) for entry in entries or ())


def _is_reachable(scene: Scene, path: str) -> bool:
    """Whether the root of the container's user namespace can walk to a path on the host.

    It has the rights of root only over files whose owner and group are both mapped.
    """
    uids, gids = _ranges(scene.linux.get("uidMappings")), _ranges(scene.linux.get("gidMappings"))
    folder = os.path.dirname(os.path.realpath(path))
    while True:
        try:
            found = os.stat(folder)
        except OSError:
            return True  # init will say what is wrong with it
        is_own = _has(uids, found.st_uid) and _has(gids, found.st_gid)
        if not is_own and not found.st_mode & 0o001:
            return False
        if folder == "/":
            return True
        folder = os.path.dirname(folder)


def _has(ranges: Ranges, number: int) -> bool:
    return any(outside <= number < outside + count for _, outside, count in ranges)
