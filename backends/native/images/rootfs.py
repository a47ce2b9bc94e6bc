"""What is in a root file system: how much, and whether a file is there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from backends.kernel import rooted


def size_of(folder: Path, check: Callable[[], object] = lambda: None) -> int:
    """Return the bytes on disk of a tree, hard links once; what is removed meanwhile counts or not.

    check is called for each folder, and may raise.
    """
    seen: set[tuple[int, int]] = set()
    total = 0
    waiting = [os.fspath(folder)]
    while waiting:
        check()
        # What is gone again does not count, nor what is nested deeper than a path can say.
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                if (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * 512
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(entry.path)
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
