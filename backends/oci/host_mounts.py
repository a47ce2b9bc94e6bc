"""Help that a container's init needs for some of its mounts, prepared by the runtime.

With the host's own users, init may map owners itself and needs only a user namespace that has the map. In a user
namespace it may neither do that nor reach every source: a helper with the host's rights makes those mounts.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from backends.kernel import device_trees, idmap, mount_helper, mount_options
from backends.kernel.idmap import IdRange
from backends.kernel.mount_helper import Wanted
from backends.kernel.mount_options import MountOptions
from backends.kernel.mounts import MountFailed, said
from backends.oci import rootfs
from backends.oci.errors import ConfigInvalid

if TYPE_CHECKING:
    from backends.oci.rootfs import Scene

Ranges = tuple[IdRange, ...]


def open_all(scene: Scene, *, not_for: Collection[int] = ()) -> dict[int, int]:
    """Return descriptors by the index of the mount. Raises ConfigInvalid, MountFailed.

    not_for are mounts that are made too late for help.
    """
    wanted: dict[int, Wanted] = {}
    for index, entry in enumerate(scene.mounts):
        found = _wanted(scene, index, entry)
        if found and index in not_for:
            raise ConfigInvalid(f"mounts[{index}]: what is mounted below a cgroup mount cannot be id-mapped")
        if found:
            wanted[index] = found
    if scene.has_userns:
        return {**_devices(scene), **(mount_helper.start(wanted) if wanted else {})}
    return _user_namespaces(scene, wanted)


def _devices(scene: Scene) -> dict[int, int]:
    """Make the devices that are asked for, as far as their owners are known here, with keys as in host_mount_fds."""
    uids, gids = _ranges(scene.linux.get("uidMappings")), _ranges(scene.linux.get("gidMappings"))
    found = {}
    for number, node in enumerate(rootfs.asked_nodes(scene)):
        uid, gid = _outside(uids, node.uid), _outside(gids, node.gid)
        if uid is not None and gid is not None:
            found[~number] = node._replace(uid=uid, gid=gid)
    return dict(zip(found, device_trees.make(list(found.values())), strict=False)) if found else {}


def _outside(ranges: Ranges, number: int) -> int | None:
    """Return the host's number of a user or group of the container's."""
    return next((host + number - inside for inside, host, size in ranges if inside <= number < inside + size), None)


def _wanted(scene: Scene, index: int, entry: Mapping[str, Any]) -> Wanted | None:
    options = mount_options.parse(entry.get("options") or ())
    source = os.path.join(scene.bundle, entry.get("source") or "")
    if options.idmap or entry.get("uidMappings") or entry.get("gidMappings"):
        if not options.is_bind or options.is_remount:
            raise ConfigInvalid(f"mounts[{index}]: id-mapped mounts are only supported for bind-mounts")
        return _mapped(scene, index, entry, options, source)
    if scene.has_userns and options.is_bind and not options.is_remount and not _is_reachable(scene, source):
        return Wanted(source, options.is_recursive)
    return None


def _mapped(scene: Scene, index: int, entry: Mapping[str, Any], options: MountOptions, source: str) -> Wanted:
    uids, gids, path = _ranges(entry.get("uidMappings")), _ranges(entry.get("gidMappings")), ""
    if not uids and not gids and scene.has_userns:
        # The container's own user namespace: one that exists, or the maps it will have.
        path = next((str(ns.get("path") or "") for ns in scene.linux["namespaces"] if ns["type"] == "user"), "")
        uids, gids = _ranges(scene.linux.get("uidMappings")), _ranges(scene.linux.get("gidMappings"))
    if not path and not (uids and gids):
        raise ConfigInvalid(f"mounts[{index}]: id-mapped mounts must have both uid and gid mappings specified")
    # "idmap" maps the mount itself, "ridmap" also those below it.
    return Wanted(source, options.is_recursive, uids, gids, path, options.idmap == "ridmap")


def _user_namespaces(scene: Scene, wanted: Mapping[int, Wanted]) -> dict[int, int]:
    fds: dict[int, int] = {}
    made: dict[tuple[Ranges, Ranges], int] = {}
    try:
        for index, one in wanted.items():
            key = (one.uids, one.gids)
            made[key] = os.dup(made[key]) if key in made else idmap.user_namespace(*key)
            fds[index] = made[key]
    except OSError as error:
        for fd in fds.values():
            os.close(fd)
        entry = scene.mounts[index]
        raise MountFailed(entry.get("source", ""), entry["destination"], said(error), error.errno) from error
    return fds


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
            return True  # made by an earlier mount, or missing: init will see
        is_own = _has(uids, found.st_uid) and _has(gids, found.st_gid)
        if not is_own and not found.st_mode & 0o001:
            return False
        if folder == "/":
            return True
        folder = os.path.dirname(folder)


def _has(ranges: Ranges, number: int) -> bool:
    return any(outside <= number < outside + count for _, outside, count in ranges)
