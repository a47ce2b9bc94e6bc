"""Hiding parts of a container's /proc and /sys, and making parts read-only, as steps. All run after the pivot.

Nothing here is looked up twice: a path is opened once, and what is done is done to the descriptor.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from backends.kernel import mount_calls as calls
from backends.kernel import rooted
from backends.kernel.mounts import KernelStep, MountFailed, RootfsFailed, said


class MaskFailed(RootfsFailed):
    """A path could not be hidden, so the container must not run."""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class MaskPaths(KernelStep):
    """Hide files behind /dev/null and folders behind an empty read-only tmpfs; what is missing needs no mask."""

    paths: tuple[str, ...]
    label: str = ""
    """SELinux context of the empty folders, or nothing."""

    kind = "mask"

    def describe(self) -> str:
        return "mask " + ", ".join(self.paths)

    def by_hand(self) -> str:
        return "; ".join(
            f"[ -d {path} ] && mount -t tmpfs -o ro,size=0 tmpfs {path} || mount --bind /dev/null {path}"
            for path in self.paths
        )

    def run(self) -> None:
        null, empty = _null_device(), -1
        try:
            for path in dict.fromkeys(os.path.normpath(path) for path in self.paths):
                with _existing(path) as fd:
                    if fd is None:
                        continue
                    if not rooted.is_directory(fd):
                        _cover(fd, null, path)
                    elif empty >= 0:
                        _cover(fd, empty, path)
                    else:
                        # The first folder's mask is the others' too: they share one tmpfs.
                        empty = self._empty_folder(fd, path)
        finally:
            os.close(null)
            if empty >= 0:
                os.close(empty)

    def _empty_folder(self, fd: int, path: str) -> int:
        """Cover a folder with a new tmpfs, and return the descriptor of that."""
        context = (("context", self.label),) if self.label else ()
        empty = calls.new_filesystem("tmpfs", "tmpfs", (("nr_blocks", "1"), ("nr_inodes", "1"), *context))
        try:
            calls.set_attributes(empty, set=calls.MOUNT_ATTR_RDONLY)
            calls.attach(empty, fd)
        except OSError as error:
            os.close(empty)
            raise MaskFailed(f'can\'t mask path "{path}": {said(error)}') from error
        return empty


def _cover(fd: int, cover: int, path: str) -> None:
    try:
        copy = calls.copy_of(cover)
        try:
            calls.attach(copy, fd)
        finally:
            os.close(copy)
    except OSError as error:
        raise MaskFailed(f'can\'t mask path "{path}": {said(error)}') from error


def _null_device() -> int:
    try:
        fd = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise MaskFailed(f"can't mask paths: open /dev/null: {said(error)}") from error
    found = os.fstat(fd)
    # Not the image's own file of that name (CVE-2025-31133).
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
        os.close(fd)
        raise MaskFailed("can't mask paths: container's /dev/null is invalid")
    return fd


@contextmanager
def _existing(path: str) -> Iterator[int | None]:
    """Yield a descriptor of what is at path, or None."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class ReadonlyPaths(KernelStep):
    """Bind paths onto themselves read-only, with what is mounted below them; what is missing stays so."""

    paths: tuple[str, ...]
    kind = "readonly"

    def describe(self) -> str:
        return "make read-only " + ", ".join(self.paths)

    def by_hand(self) -> str:
        return "; ".join(f"mount --rbind {path} {path}; mount -o remount,bind,ro {path}" for path in self.paths)

    def run(self) -> None:
        for path in self.paths:
            with _existing(path) as fd:
                if fd is not None:
                    _make_readonly(fd, path)


def _make_readonly(fd: int, path: str) -> None:
    try:
        tree = calls.copy_of(fd, recursive=True)
        try:
            calls.set_attributes(tree, set=calls.MOUNT_ATTR_RDONLY, recursive=True)
            calls.attach(tree, fd)
        finally:
            os.close(tree)
    except OSError as error:
        raise MaskFailed(f'can\'t make "{path}" read-only: {said(error)}') from error


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class FinishReadonly(KernelStep):
    """Make mounts read-only that had to be writable while others were made on them. Runs after the pivot."""

    destinations: tuple[str, ...]
    kind = "readonly"

    def describe(self) -> str:
        return "make read-only the mounts on " + ", ".join(self.destinations)

    def by_hand(self) -> str:
        return "; ".join(f"mount -o remount,bind,ro {path}" for path in self.destinations)

    def run(self) -> None:
        for path in self.destinations:
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
                try:
                    calls.set_attributes(fd, set=calls.MOUNT_ATTR_RDONLY)
                finally:
                    os.close(fd)
            except OSError as error:
                raise MountFailed("", path, f"cannot make it read-only: {said(error)}", error.errno) from error


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class ReadonlyRoot(KernelStep):
    """Make the root file system read-only, not what is mounted on it. Runs after the pivot."""

    kind = "readonly"

    def describe(self) -> str:
        return "make / read-only"

    def by_hand(self) -> str:
        return "mount -o remount,bind,ro /"

    def run(self) -> None:
        fd = os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:
            calls.set_attributes(fd, set=calls.MOUNT_ATTR_RDONLY)
        finally:
            os.close(fd)
