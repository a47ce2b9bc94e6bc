"""Root file systems from tars and folders, unpacked so that nothing in them reaches outside.

The unpacking child chroots into the empty target first: `..`, absolute paths, symlinks and hard links
of a hostile archive can then only hurt the archive's own tree.
"""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from backends.errors import InnkeeperError, NotFound
from backends.kernel import rooted
from backends.kernel.mounts import KernelStep

_MAX_ENTRIES = 4_000_000


@dataclass(frozen=True, slots=True)
class UnpackRoot(KernelStep):
    """Fill an empty folder from a folder, a tar file (plain, gzip, bzip2, xz) or an open tar stream."""

    source: str | BinaryIO
    target: str
    kind = "unpack"

    def describe(self) -> str:
        return f"unpack {self.source if isinstance(self.source, str) else 'a tar stream'} into {self.target}"

    def by_hand(self) -> str:
        if not isinstance(self.source, str):
            return f"tar -x --numeric-owner --xattrs -C {self.target}"
        if os.path.isdir(self.source):
            return f"cp -a {self.source}/. {self.target}"
        return f"tar -xf {self.source} --numeric-owner --xattrs -C {self.target}"

    def run(self) -> None:
        if isinstance(self.source, str) and os.path.isdir(self.source):
            _copy_folder(self.source, self.target)
        elif isinstance(self.source, str):
            try:
                with open(self.source, "rb") as stream:
                    _unpack_tar(stream, self.target)
            except FileNotFoundError:
                raise NotFound(f"there is no {self.source}") from None
        else:
            _unpack_tar(self.source, self.target)
        if not os.listdir(self.target):
            raise InnkeeperError("the archive is empty: no root file system in it")


def _copy_folder(source: str, target: str) -> None:
    command = ["cp", "-a", "--sparse=always", "--one-file-system", "--", f"{source}/.", target]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise InnkeeperError(f"cannot copy {source}: {lines[0]}")


def _unpack_tar(stream: BinaryIO, target: str) -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _unpack_child(stream, target, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        message = pipe.read().decode("utf-8", "replace")
    os.waitpid(pid, 0)
    if message != "ok":
        raise InnkeeperError(f"cannot unpack the archive: {message or 'the unpacker died'}")


def _unpack_child(stream: BinaryIO, target: str, writing: int) -> None:
    message = ""
    try:
        # What tarfile imports on demand must be here before the chroot.
        import bz2  # noqa: F401
        import gzip  # noqa: F401
        import lzma

        "x".encode("idna")
        os.chroot(target)
        os.chdir("/")
        os.umask(0)
        _extract(stream)
        message = "ok"
    except (OSError, tarfile.TarError, EOFError, ValueError, lzma.LZMAError) as error:
        message = str(error) or type(error).__name__
    except BaseException as error:  # the end of a forked process: it reports and is gone
        message = "".join(traceback.format_exception_only(error)).strip()
    finally:
        os.write(writing, message.encode("utf-8", "replace")[:4000])
        os._exit(0)


def _extract(stream: BinaryIO) -> None:
    with tarfile.open(fileobj=stream, mode="r|*", errorlevel=1) as archive:
        if hasattr(tarfile, "fully_trusted_filter"):
            archive.extraction_filter = tarfile.fully_trusted_filter
        folders = []
        for member in _members(archive):
            archive.extract(member, path="/", numeric_owner=True, set_attrs=not member.isdir())
            _set_xattrs(member)
            if member.isdir():
                folders.append(member)
        for member in reversed(folders):  # deepest last written first: times and read-only modes stay
            path = "/" + member.name
            archive.chown(member, path, numeric_owner=True)
            archive.chmod(member, path)
            archive.utime(member, path)


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for count, member in enumerate(archive):
        if count >= _MAX_ENTRIES:
            raise InnkeeperError(f"the archive has more than {_MAX_ENTRIES} entries")
        member.name = os.path.normpath("/" + member.name).lstrip("/") or "."
        yield member


def _set_xattrs(member: tarfile.TarInfo) -> None:
    prefix = "SCHILY.xattr."
    for key, value in member.pax_headers.items():
        if key.startswith((prefix + "user.", prefix + "security.capability")):
            data = value.encode("utf-8", "surrogateescape")
            os.setxattr("/" + member.name, key.removeprefix(prefix), data, follow_symlinks=False)


def size_of(folder: Path) -> int:
    """Return the bytes on disk of a tree, hard links once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            found = os.lstat(os.path.join(parent, name))
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                total += found.st_blocks * 512
    return total


def has(root: Path, path: str) -> bool:
    """Say whether a file is there, symlinks followed inside the root only."""
    try:
        fd = rooted.open_in_root(str(root), path)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    finally:
        os.close(fd)
