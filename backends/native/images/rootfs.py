"""Root file systems from tars and folders, unpacked so that nothing in them reaches outside.

The unpacking child (unpack.py) chroots into the empty target first: `..`, absolute paths, symlinks and hard
links of a hostile archive can then only hurt the archive's own tree.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from backends.errors import InnkeeperError, NotFound
from backends.kernel import rooted
from backends.kernel.mounts import KernelStep
from backends.native.images import unpack

_BLOCK = 1 << 20


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
    # A fresh interpreter, not a fork: this process may have threads, and memory that is none of an archive's business.
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", unpack.__file__, target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with suppress(BrokenPipeError), child.stdin:  # it ends early when it knows what is wrong
                shutil.copyfileobj(stream, child.stdin, _BLOCK)
        except BaseException:
            child.kill()
            raise
        message = child.stdout.read().decode("utf-8", "replace")
    if message != "ok":
        raise InnkeeperError(f"cannot unpack the archive: {message or 'the unpacker died'}")


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
