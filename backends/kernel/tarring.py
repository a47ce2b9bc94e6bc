"""Trees of files to and from tar streams through descriptors, so that nobody who renames meanwhile leads us astray.

Packing opens each entry below the descriptor of its folder and never follows a link. Unpacking asks its caller for
the folder of each entry. Users and groups are numbers: nothing is looked up.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, cast

from backends.kernel import linux

_BLOCK = 1024 * 1024
_RETRIES = 100


def open_inside(root_fd: int, path: str, flags: int) -> int:
    """Open a path with root_fd as "/": links and ".." in it stay inside. Raises OSError; the caller closes it."""
    for _ in range(_RETRIES):
        with suppress(BlockingIOError):  # something on the way was renamed just then
            return linux.openat2(root_fd, path, flags, linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS)
    return linux.openat2(root_fd, path, flags, linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS)


def pack(out: BinaryIO, folder_fd: int, base: str, name: str) -> None:
    """Write an entry of a folder, with all below it, as a tar stream whose top is `name`."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BLOCK) as archive:
        _Packer(archive).add(folder_fd, base, name)


class _Packer:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._linked: dict[tuple[int, int], str] = {}

    def add(self, folder_fd: int, base: str, name: str) -> None:
        try:
            found = os.stat(base, dir_fd=folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return  # it has gone meanwhile
        entry = _entry(name, found)
        if stat.S_ISLNK(found.st_mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(base, dir_fd=folder_fd)
            self._archive.addfile(entry)
        elif stat.S_ISDIR(found.st_mode):
            self._add_folder(folder_fd, base, entry)
        elif stat.S_ISREG(found.st_mode):
            self._add_file(folder_fd, base, entry)
        elif not stat.S_ISSOCK(found.st_mode):  # tar has no sockets
            self._archive.addfile(entry)

    def _add_folder(self, folder_fd: int, base: str, entry: tarfile.TarInfo) -> None:
        try:
            fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            self._archive.addfile(entry)
            for below in sorted(os.listdir(fd)):
                self.add(fd, below, f"{entry.name}/{below}")
        finally:
            os.close(fd)

    def _add_file(self, folder_fd: int, base: str, entry: tarfile.TarInfo) -> None:
        fd = _open_regular(folder_fd, base)
        if fd is None:
            return
        with os.fdopen(fd, "rb", buffering=0) as file:
            found = os.fstat(fd)
            key = found.st_dev, found.st_ino
            if key in self._linked:
                entry.type, entry.linkname, entry.size = tarfile.LNKTYPE, self._linked[key], 0
                self._archive.addfile(entry)
                return
            if found.st_nlink > 1:
                self._linked[key] = entry.name
            entry.size = found.st_size
            self._archive.addfile(entry, cast("BinaryIO", _Exactly(file, found.st_size)))


def _open_regular(folder_fd: int, base: str) -> int | None:
    """Open a file for reading; None if it has gone, or was exchanged meanwhile for what is no regular file.

    Looked at before it is opened: to open a device is an act of its own, and a watchdog would end the host.
    """
    try:
        place = os.open(base, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            return None
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(place)


class _Exactly:
    """Reads as many bytes as were promised; a file that shrank meanwhile goes on with zeros."""

    def __init__(self, file: io.RawIOBase | BinaryIO, left: int) -> None:
        self._file, self._left = file, left

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = b""
        while len(data) < wanted:
            block = self._file.read(wanted - len(data))
            if not block:
                data = data.ljust(wanted, b"\0")
                break
            data += block
        self._left -= len(data)
        return data


def _entry(name: str, found: os.stat_result) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = stat.S_IMODE(found.st_mode)
    entry.uid, entry.gid, entry.mtime = found.st_uid, found.st_gid, found.st_mtime
    kinds = {stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFIFO: tarfile.FIFOTYPE, stat.S_IFCHR: tarfile.CHRTYPE,
             stat.S_IFBLK: tarfile.BLKTYPE}  # fmt: skip
    entry.type = kinds.get(stat.S_IFMT(found.st_mode), tarfile.REGTYPE)
    if entry.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        entry.devmajor, entry.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
    return entry


class Unpacker:
    """Makes the entries of tar streams."""

    def __init__(self, open_folder: Callable[[str], int], *, keeps_owner: bool) -> None:
        """`open_folder` returns a descriptor of a folder, given as a relative path, for us to close; raises OSError."""
        self._open_folder, self._keeps_owner = open_folder, keeps_owner

    def unpack(self, source: BinaryIO, rename: Callable[[str], str] = str) -> None:
        """Make them all; `rename` maps the names in the stream. Raises OSError, tarfile.TarError."""
        later: list[tuple[str, tarfile.TarInfo]] = []
        with tarfile.open(fileobj=source, mode="r|*", bufsize=_BLOCK) as archive:
            for entry in archive:
                path = _plain(rename(entry.name))
                if path:
                    self._make(archive, entry, path, rename)
                    later += [(path, entry)] if entry.isdir() else []
        for path, entry in reversed(later):  # making what is in a folder changes its time
            self._finish_folder(path, entry)

    def _make(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str, rename: Callable[[str], str]) -> None:
        folder, _, base = path.rpartition("/")
        fd = self._folder(folder)
        try:
            if entry.isdir():
                _make_folder(fd, base)
                return
            _clear_way(fd, base)
            if entry.isreg():
                self._make_file(archive, entry, fd, base)
            elif entry.islnk():
                self._link(_plain(rename(entry.linkname)), fd, base)
            elif entry.issym():
                os.symlink(entry.linkname, base, dir_fd=fd)
                if self._keeps_owner:
                    os.chown(base, entry.uid, entry.gid, dir_fd=fd, follow_symlinks=False)
            else:
                self._make_special(entry, fd, base)
        finally:
            os.close(fd)

    def _make_file(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, fd: int, base: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        content = archive.extractfile(entry)
        with os.fdopen(os.open(base, flags, 0o600, dir_fd=fd), "wb", buffering=0) as file:
            while content is not None and (block := content.read(_BLOCK)):
                while block:
                    block = block[file.write(block) :]
            if self._keeps_owner:
                os.fchown(file.fileno(), entry.uid, entry.gid)
            os.fchmod(file.fileno(), entry.mode & 0o7777)
            os.utime(file.fileno(), (entry.mtime, entry.mtime))

    def _link(self, target: str, fd: int, base: str) -> None:
        folder, _, name = target.rpartition("/")
        from_fd = self._folder(folder)
        try:
            os.link(name, base, src_dir_fd=from_fd, dst_dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(from_fd)

    def _make_special(self, entry: tarfile.TarInfo, fd: int, base: str) -> None:
        kinds = {tarfile.FIFOTYPE: stat.S_IFIFO, tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK}
        kind = kinds.get(entry.type)
        if kind is None:
            return
        device = os.makedev(entry.devmajor, entry.devminor) if kind != stat.S_IFIFO else 0
        os.mknod(base, kind | 0o600, device, dir_fd=fd)
        # By descriptor: chmod(2) would follow a link that somebody puts in its place meanwhile, out of the container.
        made = os.open(base, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            found = os.fstat(made)
            if stat.S_IFMT(found.st_mode) != kind or found.st_rdev != device:
                raise OSError(f"{base} was exchanged while it was made")
            if self._keeps_owner:
                os.chown(f"/proc/self/fd/{made}", entry.uid, entry.gid)
            os.chmod(f"/proc/self/fd/{made}", entry.mode & 0o7777)
        finally:
            os.close(made)

    def _finish_folder(self, path: str, entry: tarfile.TarInfo) -> None:
        fd = self._open_folder(path)
        try:
            if self._keeps_owner:
                os.chown(fd, entry.uid, entry.gid)
            os.chmod(fd, entry.mode & 0o7777)
            os.utime(fd, (entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _folder(self, path: str) -> int:
        """Open a folder, making those on the way that are missing."""
        try:
            return self._open_folder(path or ".")
        except FileNotFoundError:
            above, _, base = path.rpartition("/")
            fd = self._folder(above)
            try:
                _make_folder(fd, base)
            finally:
                os.close(fd)
            return self._open_folder(path)


def _plain(name: str) -> str:
    """Return a name without ".", empty parts and a leading slash. Raises OSError for one that leads upwards."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise OSError(f"the archive holds a name that leads out of it: {name}")
    return "/".join(parts)


def _make_folder(fd: int, base: str) -> None:
    try:
        os.mkdir(base, 0o755, dir_fd=fd)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(base, dir_fd=fd, follow_symlinks=False).st_mode):
            # A link to a folder may stand for it: whoever opens it decides.
            if stat.S_ISLNK(os.stat(base, dir_fd=fd, follow_symlinks=False).st_mode):
                return
            raise OSError(f"cannot put a folder in the place of the file {base}") from None


def _clear_way(fd: int, base: str) -> None:
    try:
        os.unlink(base, dir_fd=fd)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError) as error:
        raise OSError(f"cannot put a file in the place of the folder {base}") from error
