"""Archives that ADD unpacks into a folder of the image, by a process that has this folder as its root."""

from __future__ import annotations

import os
import tarfile
from typing import NoReturn

from backends.native import rootless
from backends.native.layers import unpack as layer
from backends.native.layers.room import Bounds


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
        layer.preload()
        in_userns = rootless.is_inside()
        os.fchdir(folder)
        os.chroot(".")
        os.chdir("/")
        os.umask(0o022)
        os.lseek(reading, 0, os.SEEK_SET)
        with os.fdopen(reading, "rb") as stream:
            layer.Unpacker(Bounds(), in_userns=in_userns, is_layer=False).unpack(stream, "r|*")
    except Exception as error:  # the end of a process: it reports and is gone
        os.write(writing, (str(error) or type(error).__name__).replace("\n", " ")[:2000].encode())
        status = 1
    os._exit(status)
