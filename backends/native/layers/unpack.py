"""Unpack a layer's tar into the root: a program of its own, `python -I -S unpack.py FOLDER ATTRIBUTE [LOWER…]`.

What a layer takes away (`.wh.NAME`, `.wh..wh..opq`: image-spec layer.md, "Whiteouts") becomes what overlayfs has for
that: character devices 0:0, and folders with the attribute (trusted.overlay.opaque, or user.overlay.opaque). LOWER are
the folders of the layers below, top first: a layer may have hard links to files of theirs, and files in folders of
theirs that it does not name itself. This program imports the standard library only, all of it before the chroot, and so
runs nothing that the archive brings. Standard input is the stream; what it prints is "ok", or one line that says what
is wrong.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_MAX_ENTRIES = 4_000_000
_SPARE_BYTES = 64 << 20
"""Of the disk, that no layer may take."""

_XATTR = "SCHILY.xattr."
_KEPT_XATTRS = ("user.", "security.capability", "system.posix_acl_")
_OVERLAY_XATTRS = ("user.overlay.",)
"""Means something to overlayfs: an archive may not say it."""


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def main(target: str, opaque: str, lowers: Sequence[str]) -> None:
    """Fill an empty folder from standard input."""
    message = "ok"
    try:
        _preload()
        below = [os.open(folder, _FOLDER) for folder in lowers]
        os.chroot(target)
        os.chdir("/")
        os.umask(0)
        Unpacking(opaque, below).run()
    except Exception as error:  # the end of a process: it reports and is gone
        message = str(error) or type(error).__name__
    sys.stdout.write(message.replace("\n", " ")[:4000])


def _preload() -> None:
    """What tarfile imports on demand must be here before the chroot."""
    import bz2  # noqa: F401
    import gzip  # noqa: F401
    import lzma  # noqa: F401

    "x".encode("idna")


class Unpacking:
    """One layer on its way into the root."""

    def __init__(self, opaque: str, below: Sequence[int]) -> None:
        self._opaque, self._below = opaque, below
        self._folders: list[tarfile.TarInfo] = []
        self._gone: list[str] = []

    def run(self) -> None:
        """Take in all that the stream has."""
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|", errorlevel=1) as archive:
            if hasattr(tarfile, "fully_trusted_filter"):
                archive.extraction_filter = tarfile.fully_trusted_filter
            for member in _members(archive):
                if os.path.basename(member.name).startswith(_WHITEOUT):
                    self._gone.append(member.name)
                else:
                    self._take(archive, member)
            for name in self._gone:  # last: they are about what is below, wherever in the archive they stand
                self._take_away(name)
            for member in reversed(self._folders):  # deepest last written first: times and read-only modes stay
                path = "/" + member.name
                archive.chown(member, path, numeric_owner=True)
                archive.chmod(member, path)
                _set_time(member)

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self._make_parents(member.name)
        if member.islnk():
            self._bring_up(os.path.normpath("/" + member.linkname).lstrip("/"))
        _make_way(member)
        try:
            archive.extract(member, path="/", numeric_owner=True, set_attrs=not (member.isdir() or member.islnk()))
        except PermissionError:
            if member.ischr() or member.isblk():
                return  # in a user namespace: nobody may make devices there, and containers get theirs otherwise
            raise
        if not member.islnk():
            _set_xattrs(member)
        if member.isdir():
            self._folders.append(member)
        elif not member.islnk():
            _set_time(member)

    def _make_parents(self, name: str) -> None:
        """Make the folders above that are not here yet, as those are that they will hide; else root's, 0755."""
        folder = ""
        for part in name.split("/")[:-1]:
            folder = f"{folder}/{part}"
            with suppress(FileExistsError):
                os.mkdir(folder, 0o755)
                self._make_alike(folder)

    def _make_alike(self, folder: str) -> None:
        with self._found_below(folder.strip("/")) as found:
            if found is not None and stat.S_ISDIR(found[1].st_mode):
                os.chown(folder, found[1].st_uid, found[1].st_gid)
                os.chmod(folder, stat.S_IMODE(found[1].st_mode))

    def _bring_up(self, name: str) -> None:
        """Have the file of a lower layer that a hard link refers to in this layer too, as a write to it would."""
        if os.path.lexists("/" + name):
            return
        with self._found_below(name) as found:
            if found is not None and stat.S_ISREG(found[1].st_mode):
                self._make_parents(name)
                _copy(found[0], os.path.basename(name), "/" + name, found[1])

    @contextmanager
    def _found_below(self, name: str) -> Iterator[tuple[int, os.stat_result] | None]:
        """Yield the folder, open, and the state of what the layers below have under a name, or None."""
        folder, last = os.path.split(name)
        fd = next((fd for each in self._below if (fd := self._folder_below(each, folder, last)) is not None), -1)
        try:
            found = os.stat(last, dir_fd=fd, follow_symlinks=False) if fd >= 0 else None
            is_gone = found is None or (stat.S_ISCHR(found.st_mode) and found.st_rdev == 0)
            yield None if is_gone or found is None else (fd, found)
        finally:
            if fd >= 0:
                os.close(fd)

    def _folder_below(self, top: int, folder: str, last: str) -> int | None:
        """Open a folder of a lower layer if it has an entry of that name."""
        fd = os.dup(top)
        try:
            for part in [*filter(None, folder.split("/"))]:
                inner = os.open(part, _FOLDER, dir_fd=fd)  # never "..": names are normalized
                os.close(fd)
                fd = inner
            os.stat(last, dir_fd=fd, follow_symlinks=False)
            return os.dup(fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        finally:
            os.close(fd)

    def _take_away(self, name: str) -> None:
        folder, base = os.path.split("/" + name)
        self._make_parents(name)
        taken = base[len(_WHITEOUT) :]
        if base == _OPAQUE:
            os.setxattr(folder, self._opaque, b"y", follow_symlinks=False)
        elif base.startswith(_WHITEOUT * 2):
            pass  # notes of aufs
        elif taken in ("", ".", ".."):
            raise ValueError(f"{name!r} takes away nothing that could be")
        elif os.path.isdir(f"{folder}/{taken}") and not os.path.islink(f"{folder}/{taken}"):
            os.setxattr(f"{folder}/{taken}", self._opaque, b"y", follow_symlinks=False)
        elif not os.path.lexists(f"{folder}/{taken}"):
            os.mknod(f"{folder}/{taken}", stat.S_IFCHR)


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for count, member in enumerate(archive):
        if count >= _MAX_ENTRIES:
            raise ValueError(f"the archive has more than {_MAX_ENTRIES} entries")
        member.name = os.path.normpath("/" + member.name).lstrip("/") or "."
        yield member


def _make_way(member: tarfile.TarInfo) -> None:
    """What came before under the same name goes, so that nothing is written through a link; folders stay folders."""
    if member.isreg():
        space = os.statvfs("/")
        if member.size > space.f_bavail * space.f_frsize - _SPARE_BYTES:
            raise ValueError(f"there is no space for a file of {member.size} bytes")
    path = "/" + member.name
    try:
        is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return
    if is_folder and not member.isdir() and path != "/.":
        shutil.rmtree(path)
    elif not is_folder:
        os.unlink(path)


def _copy(folder: int, name: str, path: str, found: os.stat_result) -> None:
    """Copy a plain file of a lower layer, which does not change any more."""
    with open(name, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)) as source:
        with open(path, "xb") as target:
            shutil.copyfileobj(source, target)
        os.chown(path, found.st_uid, found.st_gid)
        os.chmod(path, stat.S_IMODE(found.st_mode))
        for key in os.listxattr(source.fileno()):
            if key.startswith(_KEPT_XATTRS) and not key.startswith(_OVERLAY_XATTRS):
                os.setxattr(path, key, os.getxattr(source.fileno(), key))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _set_time(member: tarfile.TarInfo) -> None:
    """Set the time of last change to the nanosecond, which tarfile's float has not."""
    whole, _, fraction = member.pax_headers.get("mtime", "").partition(".")
    try:
        ns = int(whole) * 10**9 + int(fraction[:9].ljust(9, "0") or 0) if whole else int(member.mtime * 10**9)
        os.utime("/" + member.name, ns=(ns, ns), follow_symlinks=False)
    except (ValueError, OverflowError):
        raise ValueError(f"{member.name!r} has an impossible time") from None


def _set_xattrs(member: tarfile.TarInfo) -> None:
    for key, value in member.pax_headers.items():
        name = key.removeprefix(_XATTR)
        if name == key or not name.startswith(_KEPT_XATTRS) or name.startswith(_OVERLAY_XATTRS):
            continue
        try:
            os.setxattr("/" + member.name, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
        except OSError as error:
            # Links and devices have no user.*; a file system or a user namespace may not have the others.
            if error.errno not in (errno.ENOTSUP, errno.EPERM) or name.startswith("security."):
                raise


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
