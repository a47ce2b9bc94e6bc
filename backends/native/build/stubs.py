"""Empty files and folders that a container's mounts made in its writable layer, and that no image is to have."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from backends.kernel import linux
from backends.kernel.mapped_overlay import Owners
from backends.native.owners import ids_inside

_MOST_LINKS = 40
_IN = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS


def stubs(
    upper: str,
    lowers: Sequence[str],
    config: Mapping[str, Any],
    owners: Mapping[str, Owners] = MappingProxyType({}),
) -> list[str]:
    """Return the paths in an upper folder that are there only because something was mounted on them, deepest first.

    Among them are the folders that were there before and have nothing else in them now. owners are those of the layers
    that were written in a user namespace.
    """
    places = {str(mount["destination"]) for mount in config.get("mounts") or ()}
    found: list[str] = []
    for place in sorted(_with_parents(places), key=len, reverse=True):
        below = [path for path in found if path.rpartition("/")[0] == place]
        if _is_empty(upper, place, below) and _says_nothing(upper, lowers, place, owners):
            found.append(place)
    return found


def _says_nothing(upper: str, lowers: Sequence[str], path: str, owners: Mapping[str, Owners]) -> bool:
    """Say whether without an empty entry the files would be the same but for it."""
    layer, before = next(((lower, found) for lower in lowers if (found := look(lower, path))), ("", None))
    if before is None:
        return True
    now = look(upper, path)
    if now is None or not (stat.S_ISDIR(now.st_mode) and stat.S_ISDIR(before.st_mode)):
        return False
    is_same_owner = ids_inside(now, owners.get(upper)) == ids_inside(before, owners.get(layer))
    return is_same_owner and now.st_mode == before.st_mode and not is_opaque(upper, path)


def is_opaque(root: str, path: str) -> bool:
    """Say whether a folder of a layer hides what the layers below have in it."""
    try:
        fd = _open(root, path)
    except OSError:
        return False
    try:
        return any(_attribute(fd, key) == b"y" for key in ("trusted.overlay.opaque", "user.overlay.opaque"))
    finally:
        os.close(fd)


def _attribute(fd: int, key: str) -> bytes:
    try:
        return os.getxattr(fd, key)
    except OSError:
        return b""


def remove(upper: str, paths: Iterable[str]) -> None:
    """Remove stubs, deepest first."""
    for path in paths:
        folder, _, name = path.rpartition("/")
        with suppress(OSError):
            fd = _open(upper, folder)
            try:
                try:
                    os.unlink(name, dir_fd=fd)
                except IsADirectoryError:
                    os.rmdir(name, dir_fd=fd)
            finally:
                os.close(fd)


def _with_parents(places: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for place in places:
        parts = [part for part in place.split("/") if part]
        found |= {"/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)}
    return found


def _open(root: str, path: str) -> int:
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return linux.openat2(root_fd, path.lstrip("/") or ".", os.O_RDONLY | os.O_DIRECTORY, _IN)
    finally:
        os.close(root_fd)


def look(root: str, path: str) -> os.stat_result | None:
    """Return what is at a path of one layer, no link followed; None if nothing is."""
    folder, _, name = path.rpartition("/")
    try:
        fd = _open(root, folder)
    except OSError:
        return None
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    finally:
        os.close(fd)


def through_links(layers: Sequence[str], path: str) -> str:
    """Return where a path leads in layers, top first, by their symlinks; with too many of these the path itself."""
    parts, done, links = [part for part in path.split("/") if part], "", 0
    while parts:
        part = parts.pop(0)
        if part in (".", ".."):
            done = done.rpartition("/")[0] if part == ".." else done
            continue
        to = next((_link(layer, f"{done}/{part}") for layer in layers if look(layer, f"{done}/{part}")), "")
        if not to:
            done = f"{done}/{part}"
            continue
        links += 1
        if links > _MOST_LINKS:
            return path
        parts, done = [*(each for each in to.split("/") if each), *parts], "" if to.startswith("/") else done
    return done or "/"


def _link(root: str, path: str) -> str:
    folder, _, name = path.rpartition("/")
    fd = _open(root, folder)
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError:  # it is something else
        return ""
    finally:
        os.close(fd)


def _is_empty(upper: str, path: str, known: Sequence[str]) -> bool:
    """Say whether it is an empty file, or a folder with nothing in it but known stubs."""
    found = look(upper, path)
    if found is None:
        return False
    if not stat.S_ISDIR(found.st_mode):
        return stat.S_ISREG(found.st_mode) and found.st_size == 0
    try:
        fd = _open(upper, path)
    except OSError:
        return False
    try:
        return {f"{path}/{name}" for name in os.listdir(fd)} <= set(known)
    finally:
        os.close(fd)
