"""What differs between two stacks of layers, read as an overlay shows them, without mounting any.

Only what is in layers that the two do not share is looked at, so the time goes by what was changed and not by the size
of the image. See Documentation/filesystems/overlayfs.rst for whiteouts, opaque folders and merging.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from backends.image import FileChange
from backends.kernel.mapped_overlay import Owners
from backends.native.owners import ids_inside

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_OURS = ("trusted.overlay.", "user.overlay.")


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder in one layer of a stack."""

    path: str
    is_shared: bool
    """Whether the layer is in both stacks."""

    owners: Owners | None
    """Of the user namespace that the layer was written in."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A path as one of the stacks shows it."""

    path: str
    """In the topmost layer that has it."""

    found: os.stat_result
    owners: Owners | None
    """Of the layer that has it."""

    folders: tuple[_Folder, ...] = ()
    """Of a folder: where it is in each layer that adds to it, top first."""

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.found.st_mode)

    @property
    def shared(self) -> tuple[str, ...]:
        return tuple(folder.path for folder in self.folders if folder.is_shared)

    def names(self, *, all: bool) -> set[str]:
        """Return what is in a folder, or only what layers say of it that are not in both stacks."""
        return {name for each in self.folders if all or not each.is_shared for name in os.listdir(each.path)}

    def child(self, name: str) -> _Entry | None:
        """Return what a folder shows by that name."""
        top: tuple[str, os.stat_result, Owners | None] | None = None
        folders = []
        for folder in self.folders:
            path = f"{folder.path}/{name}"
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(found.st_mode):
                if top is None and not _is_whiteout(found):
                    top = path, found, folder.owners
                break
            top = top or (path, found, folder.owners)
            folders.append(replace(folder, path=path))
            if _is_opaque(path):
                break
        return None if top is None else _Entry(*top, tuple(folders))


def differences(
    before: Sequence[str], after: Sequence[str], owners: Mapping[str, Owners] = MappingProxyType({})
) -> list[FileChange]:
    """Return what the second stack shows otherwise than the first, by path; both are folders of layers, top first.

    "A" is only in the second, with all that is in it; "D" only in the first; "C" differs in content or attributes, or
    is a folder in which something does. owners are those of layers that were written in a user namespace.

    Raises OSError.
    """
    shared = _shared(before, after)
    changes = _compare("", _root(before, shared, owners), _root(after, shared, owners))
    return sorted(changes, key=lambda change: change.path)


def _shared(before: Sequence[str], after: Sequence[str]) -> int:
    """Return how many layers at the bottom are the same ones."""
    count = 0
    while count < min(len(before), len(after)) and before[-1 - count] == after[-1 - count]:
        count += 1
    return count


def _root(stack: Sequence[str], shared: int, owners: Mapping[str, Owners]) -> _Entry:
    folders = [_Folder(path, number >= len(stack) - shared, owners.get(path)) for number, path in enumerate(stack)]
    return _Entry(stack[0], os.lstat(stack[0]), folders[0].owners, tuple(folders))


def _compare(path: str, before: _Entry, after: _Entry) -> Iterator[FileChange]:
    """Yield the differences below a folder of both."""
    # Where a stack hides what the shared layers have, all of them has to be looked at.
    needs_all = before.shared != after.shared
    for name in before.names(all=needs_all) | after.names(all=needs_all):
        yield from _changes(f"{path}/{name}", before.child(name), after.child(name))


def _changes(path: str, before: _Entry | None, after: _Entry | None) -> Iterator[FileChange]:
    if after is None:
        if before is not None:
            yield FileChange("D", path)
    elif before is None:
        yield from _added(path, after)
    elif before.is_folder and after.is_folder:
        below = list(_compare(path, before, after))
        if below or _differ(before, after):
            yield FileChange("C", path)
        yield from below
    elif before.is_folder != after.is_folder or _differ(before, after):
        yield FileChange("C", path, _size(after))
        yield from _added_below(path, after)


def _added(path: str, entry: _Entry) -> Iterator[FileChange]:
    yield FileChange("A", path, _size(entry))
    yield from _added_below(path, entry)


def _added_below(path: str, entry: _Entry) -> Iterator[FileChange]:
    for name in entry.names(all=True) if entry.is_folder else ():
        child = entry.child(name)
        if child is not None:
            yield from _added(f"{path}/{name}", child)


def _size(entry: _Entry) -> int | None:
    return entry.found.st_size if stat.S_ISREG(entry.found.st_mode) else None


def _differ(before: _Entry, after: _Entry) -> bool:
    one, other = before.found, after.found
    if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino):
        return False
    if one.st_mode != other.st_mode or ids_inside(one, before.owners) != ids_inside(other, after.owners):
        return True
    if before.is_folder:
        return _attributes(before.path) != _attributes(after.path)
    if stat.S_ISLNK(one.st_mode):
        return os.readlink(before.path) != os.readlink(after.path)
    values = ((found.st_size, found.st_mtime_ns, found.st_rdev) for found in (one, other))
    return len(set(values)) > 1 or _attributes(before.path) != _attributes(after.path)


def _attributes(path: str) -> dict[str, bytes]:
    try:
        names = [name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith(_OURS)]
        return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    except OSError:  # a file system without any
        return {}


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _is_opaque(path: str) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False
