"""A copy of a layer, brought up to date pass by pass while a container writes to the layer: a program of its own.

A pass leaves alone what has the same inode and ctime as when it was copied: the kernel moves ctime with every change of
content, attributes and name, and nobody can set it. Three things make that sure enough for a copy that must be exact:

- The disk is synced before a pass. The kernel then notices the next write to a page that a program has mapped, as it
  would not for one that is still to be written out. File systems that work otherwise get one pass, while nobody writes.
- What was changed shortly before the sync is copied again: times are coarse, on some file systems whole seconds.
- Everything is opened by descriptors and without links, and looked at once it is open: a container that moves its
  folders about meanwhile gets files of its own into the copy and no others.

Each line of standard input asks for a pass: "live" while the layer may change, "last" when it does not. The answer is a
line, "ok" or what is wrong.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from backends.kernel import linux

_FICLONE = 0x40049409
_FOLLOWED = {0xEF53, 0x58465342, 0x9123683E}
"""File systems whose pages are watched again once they are written out: ext4, xfs, btrfs."""

_SETTLED_NS = 2 * 10**9
_SMALL = 64 << 10
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_CLONES = (errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.ENOSYS, errno.EINVAL, errno.EPERM)
_MOVED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EINVAL, errno.EISDIR, errno.ESTALE)
_DEEPEST = 100_000

Marks = dict[str, int]
"""By name, the inode and ctime of what was copied."""


def main(source: str, target: str) -> None:
    """Make target, and copy source to it as often as standard input asks."""
    os.umask(0o077)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    sys.setrecursionlimit(_DEEPEST)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    replica: Replica | None = None
    for line in sys.stdin:
        try:
            replica = replica or Replica(source, target)
            replica.update(is_live=line.strip() == "live")
            answer = "ok"
        except RecursionError:
            answer = "folders in it are too deep"
        except Exception as error:  # the other side tells the user
            answer = _said(error)
        print(answer.replace("\n", " "), flush=True)


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if isinstance(error.filename, str) else error.strerror
    return str(error) or type(error).__name__


class Replica:
    """The copy, and what is known of it."""

    def __init__(self, source: str, target: str) -> None:
        os.mkdir(target)
        self._source, self._target = (os.open(path, _FOLDER) for path in (source, target))
        self._known: dict[str, Marks] = {}

    def update(self, *, is_live: bool) -> None:
        """Copy what has changed. A live one leaves out what would have to be copied again. Raises OSError."""
        settled_ns = time.time_ns() - _SETTLED_NS
        if is_live:
            if linux.filesystem_type(self._source) not in _FOLLOWED:
                return
            linux.syncfs(self._source)
        done = _Pass(self._target, self._known, settled_ns, is_live=is_live)
        self._known = {}  # after an error nothing is known
        done.copy_folder(self._source, self._target, "", is_known=False)
        self._known = done.marks


class _Pass:
    def __init__(self, root: int, known: dict[str, Marks], settled_ns: int, *, is_live: bool) -> None:
        self._root, self._known, self._settled_ns, self._is_live = root, known, settled_ns, is_live
        self._clones = True
        self._linked: dict[tuple[int, int], tuple[str, int, bool]] = {}
        """By device and inode: where a file of several names is in the copy, its mark, whether it was left alone."""

        self.marks: dict[str, Marks] = {}

    def copy_folder(self, source: int, target: int, path: str, *, is_known: bool) -> None:
        """Make a folder, and all in it, like another; is_known: its attributes are right."""
        known, marks = self._known.get(path, {}), self.marks.setdefault(path, {})
        names, before = os.listdir(source), set(os.listdir(target))
        is_changed = not is_known
        for name in before.difference(names):
            _remove(target, name)
            is_changed = True
        for name in names:
            try:
                is_changed |= self._copy(source, target, path, name, known.get(name), marks, name in before)
            except OSError as error:
                if not self._is_live or error.errno not in _MOVED:
                    raise
                is_changed = True
        if is_changed:
            found = os.fstat(source)
            _give_attributes(found, f"/proc/self/fd/{source}", f"/proc/self/fd/{target}", follow=True)

    def _copy(
        self, source: int, target: int, path: str, name: str, known: int | None, marks: Marks, is_there: bool
    ) -> bool:
        """Copy one entry of a folder; says whether that changed the folder of the copy."""
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            return self._enter(source, target, f"{path}/{name}", name, known, marks, is_there)
        is_same = known == _mark(found)
        if found.st_nlink > 1 and self._link(found, target, path, name, marks, is_same, is_there):
            return True
        if is_same:
            marks[name] = _mark(found)
            return False
        if self._is_live and found.st_ctime_ns >= self._settled_ns:
            return False  # it would have to be copied again
        if is_there:
            _remove(target, name)
        if stat.S_ISREG(found.st_mode):
            mark = self._copy_file(source, target, name)
        else:
            mark = _copy_special(source, target, name, found)
        if mark is not None and found.st_ctime_ns < self._settled_ns:
            marks[name] = mark
        if found.st_nlink > 1:
            self._linked[found.st_dev, found.st_ino] = f"{path}/{name}"[1:], mark or 0, False
        return True

    def _enter(
        self, source: int, target: int, path: str, name: str, known: int | None, marks: Marks, is_there: bool
    ) -> bool:
        inner = os.open(name, _FOLDER, dir_fd=source)
        try:
            found = os.fstat(inner)
            is_new = not is_there or not stat.S_ISDIR(os.stat(name, dir_fd=target, follow_symlinks=False).st_mode)
            if is_new:
                if is_there:
                    _remove(target, name)
                os.mkdir(name, 0o700, dir_fd=target)
            copy = os.open(name, _FOLDER, dir_fd=target)
            try:
                self.copy_folder(inner, copy, path, is_known=known == _mark(found))
            finally:
                os.close(copy)
            if found.st_ctime_ns < self._settled_ns:
                marks[name] = _mark(found)
            return is_new
        finally:
            os.close(inner)

    def _link(
        self, found: os.stat_result, target: int, path: str, name: str, marks: Marks, is_same: bool, is_there: bool
    ) -> bool:
        """Give a file that the copy has already its other name; says whether that is all there is to do."""
        key, place = (found.st_dev, found.st_ino), f"{path}/{name}"[1:]
        if key not in self._linked:
            if is_same:
                self._linked[key] = place, _mark(found), True
            return False
        first, mark, is_kept = self._linked[key]
        if is_same and is_kept:
            return False
        if is_there:
            _remove(target, name)
        os.link(first, name, src_dir_fd=self._root, dst_dir_fd=target, follow_symlinks=False)
        if mark == _mark(found) and found.st_ctime_ns < self._settled_ns:
            marks[name] = mark
        return True

    def _copy_file(self, source: int, target: int, name: str) -> int | None:
        fd = os.open(name, _FILE, dir_fd=source)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
            copy = os.open(name, _NEW, 0o600, dir_fd=target)
            try:
                self._copy_content(fd, copy, found)
                _give_attributes(found, fd, copy, follow=True)
            finally:
                os.close(copy)
        finally:
            os.close(fd)
        return _mark(found)

    def _copy_content(self, fd: int, copy: int, found: os.stat_result) -> None:
        size = found.st_size
        if 0 < size <= _SMALL and found.st_blocks * 512 >= size:
            _write(copy, os.read(fd, size))
            return
        if size and self._clones:
            try:
                fcntl.ioctl(copy, _FICLONE, fd)
                return
            except OSError as error:
                if error.errno not in _NO_CLONES:
                    raise
                self._clones = error.errno in (errno.EINVAL, errno.EPERM)  # which are of this file
        for begin, end in _pieces(fd, size):
            _copy_piece(fd, copy, begin, end)
        os.ftruncate(copy, size)


def _mark(found: os.stat_result) -> int:
    return (found.st_ino << 64) + found.st_ctime_ns


def _pieces(fd: int, size: int) -> list[tuple[int, int]]:
    """Return where a file has something other than holes."""
    found, begin = [], 0
    while begin < size:
        try:
            begin = os.lseek(fd, begin, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        end = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        if begin < end:
            found.append((begin, end))
        begin = max(end, begin + 1)
    return found


def _copy_piece(fd: int, copy: int, begin: int, end: int) -> None:
    try:
        while begin < end:
            count = os.copy_file_range(fd, copy, end - begin, begin, begin)
            if count == 0:
                return  # it has become shorter
            begin += count
    except OSError as error:
        if error.errno not in _NO_CLONES:
            raise
        os.lseek(copy, begin, os.SEEK_SET)
        while begin < end and (block := os.pread(fd, min(end - begin, 1 << 20), begin)):
            _write(copy, block)
            begin += len(block)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _copy_special(source: int, target: int, name: str, found: os.stat_result) -> int | None:
    """Copy a link, device, pipe or socket; returns its mark if it is still the same one."""
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
    _give_attributes(found, f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}", follow=False)
    return _mark(found) if _mark(os.stat(name, dir_fd=source, follow_symlinks=False)) == _mark(found) else None


def _give_attributes(found: os.stat_result, source: int | str, target: int | str, *, follow: bool) -> None:
    """Give owner, mode, extended attributes and times, in this order: each takes away what comes after it."""
    options: dict[str, Any] = {} if isinstance(target, int) else {"follow_symlinks": follow}
    os.chown(target, found.st_uid, found.st_gid, **options)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(target, stat.S_IMODE(found.st_mode))
    names, old = _attributes(source, options), _attributes(target, options)
    for key in set(old).difference(names):
        with _lenient(key):
            os.removexattr(target, key, **options)
    for key in names:
        with _lenient(key):
            os.setxattr(target, key, os.getxattr(source, key, **options), **options)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns), **options)


@contextmanager
def _lenient(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # A label of SELinux or the like, which the machine sets itself; or one that was just taken away.
        is_label = key.startswith("security.") and key != "security.capability"
        if error.errno != errno.ENODATA and not is_label:
            raise


def _attributes(path: int | str, options: dict[str, Any]) -> list[str]:
    try:
        return os.listxattr(path, **options)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return []


def _remove(folder: int, name: str) -> None:
    """Remove an entry of the copy, with all that is in it."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        inner = os.open(name, _FOLDER, dir_fd=folder)
        try:
            for below in os.listdir(inner):
                _remove(inner, below)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=folder)
