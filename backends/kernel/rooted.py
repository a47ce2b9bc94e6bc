"""Paths below a root that other people wrote: no symlink in them leads outside.

A container's image may hold `proc -> /etc`. Every path of a guest is therefore opened with
openat2(2) RESOLVE_IN_ROOT and used through its descriptor, never by name (CVE-2021-30465).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from backends.kernel import linux


def open_in_root(root: str, path: str, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open a path as a process chrooted to root would; the caller closes the descriptor."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return linux.openat2(root_fd, path.lstrip("/") or ".", flags, linux.RESOLVE_IN_ROOT, mode)
    finally:
        os.close(root_fd)


@contextmanager
def target(root: str, path: str, *, make: str = "") -> Iterator[str]:
    """Yield a name (/proc/self/fd/N) that means exactly the object at path below root.

    make "dir" or "file" creates it, with its parents, where it is missing.
    """
    fd = _open_or_make(root, path, make)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def make_directory(root: str, path: str, mode: int = 0o755) -> None:
    """Create a directory and its parents below root; one that exists stays as it is."""
    done = ""
    for part in path.strip("/").split("/"):
        parent, done = done, f"{done}/{part}"
        try:
            os.close(open_in_root(root, done))
        except FileNotFoundError:
            parent_fd = open_in_root(root, parent or "/")
            try:
                os.mkdir(part, mode, dir_fd=parent_fd)
            finally:
                os.close(parent_fd)


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


def _open_or_make(root: str, path: str, make: str) -> int:
    try:
        return open_in_root(root, path)
    except FileNotFoundError:
        if not make:
            raise
    if make == "dir":
        make_directory(root, path)
    else:
        make_directory(root, os.path.dirname(path) or "/")
        os.close(open_in_root(root, path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o644))
    return open_in_root(root, path)
