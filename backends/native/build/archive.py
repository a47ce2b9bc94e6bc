"""Archives that ADD unpacks into a folder of the image, by a process that has this folder as its root."""

from __future__ import annotations

import os
import sys
import tarfile
from typing import NoReturn

from backends.native.layers import unpack as layer


def is_archive(fd: int) -> bool:
    """Say whether a file is a tar, compressed in a way that we know or not; leaves it at its beginning."""
    try:
        with os.fdopen(os.dup(fd), "rb") as file, tarfile.open(fileobj=file, mode="r:*") as archive:
            return archive.next() is not None
    except (tarfile.TarError, OSError, EOFError, ValueError, ArithmeticError):
        return False
    finally:
        os.lseek(fd, 0, os.SEEK_SET)


def unpack(folder: int, reading: int, writing: int) -> NoReturn:
    """Unpack a tar; what goes wrong is written to a pipe. For a process that was forked for it."""
    status = 0
    try:
        layer._preload()
        os.fchdir(folder)
        os.chroot(".")
        os.lseek(reading, 0, os.SEEK_SET)
        os.dup2(reading, 0)
        _extract()
    except Exception as error:  # the end of a process: it reports and is gone
        os.write(writing, (str(error) or type(error).__name__).replace("\n", " ")[:2000].encode())
        status = 1
    os._exit(status)


def _extract() -> None:
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|*", errorlevel=1) as archive:
        if hasattr(tarfile, "fully_trusted_filter"):
            archive.extraction_filter = tarfile.fully_trusted_filter
        folders = []
        for member in layer._members(archive):
            layer._make_way(member)
            archive.extract(member, path="/", numeric_owner=True, set_attrs=not member.isdir())
            layer._set_xattrs(member)
            if member.isdir():
                folders.append(member)
        for member in reversed(folders):  # deepest last written first: times and read-only modes stay
            path = "/" + member.name
            archive.chown(member, path, numeric_owner=True)
            archive.chmod(member, path)
            archive.utime(member, path)
