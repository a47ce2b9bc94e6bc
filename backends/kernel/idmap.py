"""Mounts that show other owners than the file system has (mount_setattr(2), MOUNT_ATTR_IDMAP)."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from backends.kernel import linux
from backends.kernel import mount_calls as calls

IdRange = tuple[int, int, int]
"""(first on disk, first that is seen, how many)."""


def user_namespace(uids: Sequence[IdRange], gids: Sequence[IdRange]) -> int:
    """Return a descriptor of a user namespace with these maps, in which no process lives. The caller closes it.

    Needs the host's procfs and the right to write any map.
    """
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    end_read, end_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _hold(ready_write, end_read, (ready_read, end_write))
    for fd in (ready_write, end_read):
        os.close(fd)
    try:
        answer = os.read(ready_read, 16)
        if answer != b"0":
            number = int(answer or errno.ECHILD)
            raise OSError(number, f"no user namespace for the owners: {os.strerror(number)}")
        _write(f"/proc/{pid}/uid_map", uids)
        _write(f"/proc/{pid}/gid_map", gids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready_read)
        os.close(end_write)  # the child reads its end and goes
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _hold(ready: int, end: int, others: tuple[int, int]) -> None:
    """Run in the child: be in a new user namespace until the other end of `end` is closed."""
    try:
        for fd in others:
            os.close(fd)
        answer = b"0"
        try:
            linux.unshare(linux.CLONE_NEWUSER)
        except OSError as error:
            answer = str(error.errno).encode()
        os.write(ready, answer)
        os.read(end, 1)
    finally:
        os._exit(0)


def _write(path: str, ranges: Sequence[IdRange]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, "".join(f"{inside} {outside} {count}\n" for inside, outside, count in ranges).encode())
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class MappedTree:
    """How the owners of one mount are mapped."""

    userns_fd: int
    """A user namespace that has the maps; closed when the tree has been opened."""

    map_below: bool = False
    """Whether the mounts below it are mapped too."""

    def open(self, source: str, *, recursive: bool) -> int:
        """Return a descriptor of a mapped copy of the mount at source, attached nowhere."""
        try:
            return open_mapped(source, self.userns_fd, recursive=recursive, map_below=self.map_below)
        finally:
            os.close(self.userns_fd)


def open_mapped(source: str, userns_fd: int, *, recursive: bool, map_below: bool) -> int:
    """Return the same. There is never a tree without the map: where a file system cannot, OSError says so."""
    tree = calls.open_tree(source, recursive=recursive)
    try:
        calls.set_attributes(tree, set=calls.MOUNT_ATTR_IDMAP, userns_fd=userns_fd, recursive=map_below)
    except OSError as error:
        os.close(tree)
        number = error.errno or 0
        text = f"failed to set MOUNT_ATTR_IDMAP on {source}: {os.strerror(number).lower()}"
        if number == errno.EINVAL:
            text += " (maybe the filesystem used doesn't support idmap mounts on this kernel?)"
        raise OSError(number, text) from error
    return tree
