"""Paths below a root that other people wrote: no symlink in them leads outside.

A container's image may hold `proc -> /etc`, and someone may exchange a folder for a symlink while we look
(CVE-2021-30465). Every path of a guest is therefore opened with openat2(2) RESOLVE_IN_ROOT and used through
its descriptor, never by name.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from backends.kernel import linux

_MAX_LINKS = 40
_MAX_TRIES = 1000
_MAX_RACES = 20


def open_in_root(root: str | int, path: str, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open a path as a process chrooted to root would; the caller closes the descriptor.

    root is a path or a descriptor of a folder.
    """
    if isinstance(root, int):
        return _resolve(root, path, flags, mode)
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _resolve(root_fd, path, flags, mode)
    finally:
        os.close(root_fd)


def _resolve(root_fd: int, path: str, flags: int, mode: int) -> int:
    for _ in range(_MAX_TRIES):
        with suppress(BlockingIOError):
            # EAGAIN: something was renamed while the kernel followed a "..", so it could not vouch for the result.
            return linux.openat2(root_fd, path.lstrip("/") or ".", flags, linux.RESOLVE_IN_ROOT, mode)
    raise OSError(errno.EAGAIN, "folders in it are renamed all the time", path)


@contextmanager
def target(root: str | int, path: str, *, make: str = "") -> Iterator[str]:
    """Yield a name (/proc/self/fd/N) that means exactly the object at path below root.

    make "dir" or "file" creates it, with its parents, where it is missing.
    """
    fd = open_or_make(root, path, make)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def open_or_make(root: str | int, path: str, make: str) -> int:
    """Return an O_PATH descriptor of what is at path; make "dir" or "file" creates it where it is missing."""
    for _ in range(_MAX_RACES):
        try:
            return open_in_root(root, path)
        except FileNotFoundError:
            if not make:
                raise
        # Missing again after it was made: somebody renames folders, or it cannot be made there at all.
        with suppress(FileNotFoundError):
            if make == "dir":
                make_directory(root, path)
            else:
                _make_file(root, path)
    return open_in_root(root, path)


def _make_file(root: str | int, path: str) -> None:
    for _ in range(_MAX_LINKS):
        folder, name = os.path.split(path.rstrip("/"))
        make_directory(root, folder or "/")
        try:
            os.close(open_in_root(root, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o644))
            return
        except FileExistsError:
            through = _through_link(root, folder, name)
            if through == f"{folder}/{name}":
                return
            path = through
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def make_directory(root: str | int, path: str, mode: int = 0o755) -> None:
    """Create a directory and its parents below root; one that exists stays as it is.

    A symlink to what does not exist yet is followed, and its target is created, below root.
    """
    parts, done, links = [part for part in path.split("/") if part not in ("", ".")], "", 0
    while parts:
        part = parts.pop(0)
        parent, done = done, f"{done}/{part}"
        try:
            os.close(open_in_root(root, done))
        except FileNotFoundError:
            if _mkdir_at(root, parent or "/", part, mode):
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
            parts = [*_through_link(root, parent or "/", part).split("/"), *parts]
            parts, done = [part for part in parts if part not in ("", ".")], ""


def _mkdir_at(root: str | int, parent: str, name: str, mode: int) -> bool:
    parent_fd = open_in_root(root, parent, os.O_PATH | os.O_DIRECTORY)
    try:
        os.mkdir(name, mode, dir_fd=parent_fd)
    except FileExistsError:
        return False  # a dangling symlink, or somebody else was faster
    finally:
        os.close(parent_fd)
    return True


def _through_link(root: str | int, parent: str, name: str) -> str:
    """Return the path that parent/name means: that of the symlink's target if it is one."""
    parent_fd = open_in_root(root, parent or "/", os.O_PATH | os.O_DIRECTORY)
    try:
        to = os.readlink(name, dir_fd=parent_fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return f"{parent}/{name}"
    finally:
        os.close(parent_fd)
    return to if to.startswith("/") else f"{parent}/{to}"


def open_in_proc(path: str, flags: int) -> int:
    """Open a path below /proc if that is procfs and nothing put in its place (CVE-2019-16884, CVE-2025-52881).

    The caller closes the descriptor. Raises OSError, ENODEV if /proc is something else.
    """
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if linux.filesystem_type(proc) != linux.PROC_SUPER_MAGIC:
            raise OSError(errno.ENODEV, "what is mounted there is not procfs", "/proc")
        # RESOLVE_NO_XDEV: neither is anything inside it.
        return linux.openat2(proc, path, flags, linux.RESOLVE_BENEATH | linux.RESOLVE_NO_XDEV)
    finally:
        os.close(proc)


def is_directory(fd: int) -> bool:
    """Say whether the descriptor refers to a directory."""
    return stat.S_ISDIR(os.fstat(fd).st_mode)
