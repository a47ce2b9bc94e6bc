"""Unpack a layer's tar into the root: a program of its own, `python -I -S unpack.py FOLDER ATTRIBUTE`.

What a layer takes away (`.wh.NAME`, `.wh..wh..opq`: image-spec layer.md, "Whiteouts") becomes what overlayfs has for
that: character devices 0:0, and folders with the attribute (trusted.overlay.opaque, or user.overlay.opaque). It
imports the standard library only, all of it before the chroot, and so runs nothing that the archive brings.
Standard input is the stream; what it prints is "ok", or one line that says what is wrong.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_MAX_ENTRIES = 4_000_000


_SPARE_BYTES = 64 << 20
"""Of the disk, that no layer may take."""


def main(target: str, opaque: str) -> None:
    """Fill an empty folder from standard input."""
    message = "ok"
    try:
        _preload()
        os.chroot(target)
        os.chdir("/")
        os.umask(0)
        _extract(opaque)
    except Exception as error:  # the end of a process: it reports and is gone
        message = str(error) or type(error).__name__
    sys.stdout.write(message.replace("\n", " ")[:4000])


def _preload() -> None:
    """What tarfile imports on demand must be here before the chroot."""
    import bz2  # noqa: F401
    import gzip  # noqa: F401
    import lzma  # noqa: F401

    "x".encode("idna")


def _extract(opaque: str) -> None:
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|*", errorlevel=1) as archive:
        if hasattr(tarfile, "fully_trusted_filter"):
            archive.extraction_filter = tarfile.fully_trusted_filter
        folders = []
        gone: list[str] = []
        for member in _members(archive):
            if os.path.basename(member.name).startswith(_WHITEOUT):
                gone.append(member.name)
                continue
            _make_way(member)
            try:
                archive.extract(member, path="/", numeric_owner=True, set_attrs=not member.isdir())
            except PermissionError:
                if member.ischr() or member.isblk():
                    continue  # in a user namespace: nobody may make devices there, and containers get theirs otherwise
                raise
            _set_xattrs(member)
            if member.isdir():
                folders.append(member)
        for name in gone:  # last: they are about what is below, wherever in the archive they stand
            _take_away(name, opaque)
        for member in reversed(folders):  # deepest last written first: times and read-only modes stay
            path = "/" + member.name
            archive.chown(member, path, numeric_owner=True)
            archive.chmod(member, path)
            archive.utime(member, path)


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
    if is_folder and not member.isdir() and path != "/":
        shutil.rmtree(path)
    elif not is_folder:
        os.unlink(path)


def _take_away(name: str, opaque: str) -> None:
    folder, base = os.path.split("/" + name)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    taken = base[len(_WHITEOUT) :]
    if base == _OPAQUE:
        os.setxattr(folder, opaque, b"y", follow_symlinks=False)
    elif base.startswith(_WHITEOUT * 2):
        pass  # notes of aufs
    elif taken in ("", ".", ".."):
        raise ValueError(f"{name!r} takes away nothing that could be")
    elif os.path.isdir(f"{folder}/{taken}") and not os.path.islink(f"{folder}/{taken}"):
        os.setxattr(f"{folder}/{taken}", opaque, b"y", follow_symlinks=False)
    elif not os.path.lexists(f"{folder}/{taken}"):
        os.mknod(f"{folder}/{taken}", stat.S_IFCHR)


def _set_xattrs(member: tarfile.TarInfo) -> None:
    prefix = "SCHILY.xattr."
    for key, value in member.pax_headers.items():
        if key.startswith((prefix + "user.", prefix + "security.capability")):
            data = value.encode("utf-8", "surrogateescape")
            os.setxattr("/" + member.name, key.removeprefix(prefix), data, follow_symlinks=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
