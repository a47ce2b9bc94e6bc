"""What a process that is to enter a container has open, and what the container could do with that."""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress

from backends.kernel import linux
from backends.kernel import mount_calls as calls


def keep_only(kept: Iterable[int]) -> None:
    """Close every descriptor but these, in a process that was forked from one with other business.

    Python's objects for the closed ones are still there: none of them may be collected, and close its number again.
    """
    gc.disable()
    first = 0
    for fd in sorted(set(kept)):
        if fd > first:
            linux.close_range(first, fd - 1)
        first = fd + 1
    linux.close_range(first)


def guarded(fds: Sequence[int]) -> tuple[int, ...]:
    """Return descriptors for a container's program; the host's /dev/null among them is exchanged.

    Through a descriptor of the host's node, root of the container could change its mode and owner for all of the
    host. In its place comes the same device, seen through a read-only mount: it takes data, but no chmod(2).
    """
    found = list(fds)
    for index, fd in enumerate(fds):
        if _is_null(fd):
            with suppress(PermissionError):  # a plain user may not mount; the host's node is not his to change either
                found[index] = _unchangeable_null()
    return tuple(found)


def _is_null(fd: int) -> bool:
    try:
        found = os.fstat(fd)
    except OSError:  # closed
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3)


def _unchangeable_null() -> int:
    tree = calls.open_tree("/dev/null")
    try:
        calls.set_attributes(tree, set=calls.MOUNT_ATTR_RDONLY)
        return os.open(f"/proc/self/fd/{tree}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(tree)
