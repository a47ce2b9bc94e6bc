"""Folders of RUN --mount=type=cache, which stay between builds.

::

    STATE/build-caches/KEY[.N]/    data (what a RUN sees there), id (what the Dockerfile calls it)

Each is locked (flock) while a RUN uses it. Whoever builds holds Blobs.using(), whoever removes holds
Blobs.collecting(): none goes that is about to be used.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from backends.errors import Busy
from backends.kernel.trees import remove_tree
from backends.native.images.rootfs import size_of

_WAIT_S = 0.1
_MOST_PRIVATE = 1000


@contextmanager
def held(
    state_dir: Path, key: str, sharing: str, make: Callable[[], Path], wait: Callable[[float], None]
) -> Iterator[Path]:
    """Yield the folder that a RUN sees, held for as long as the body takes.

    make returns a new folder of this form where there is none yet, on the same file system; wait is called with
    seconds, again and again, while another build has what cannot be shared, and may raise. Raises Busy.
    """
    fd, folder = _opened(state_dir, key, sharing, make, wait)
    try:
        yield folder / "data"
    finally:
        os.close(fd)


def _opened(
    state_dir: Path, key: str, sharing: str, make: Callable[[], Path], wait: Callable[[float], None]
) -> tuple[int, Path]:
    how = fcntl.LOCK_SH if sharing == "shared" else fcntl.LOCK_EX
    for number in range(_MOST_PRIVATE):
        folder = state_dir / "build-caches" / (f"{key}.{number}" if number else key)
        if not folder.exists():
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            _put(make(), folder)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            while not _is_locked(fd, how):
                if sharing == "private":
                    break
                wait(_WAIT_S)
            else:
                return fd, folder
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise Busy(f"{_MOST_PRIVATE} builds use the cache of this mount, each for itself")


def _put(new: Path, folder: Path) -> None:
    try:
        new.rename(folder)
    except OSError:
        if not folder.exists():  # else another build was faster, and its folder is as good
            raise


def _is_locked(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def size(state_dir: Path) -> tuple[int, int]:
    """Return how many there are, and their bytes on disk."""
    found = _all(state_dir)
    return len(found), sum(size_of(path) for path in found)


def remove(state_dir: Path) -> tuple[int, int]:
    """Remove all, and return how many there were and their bytes on disk. The caller is Blobs.collecting()."""
    found = size(state_dir)
    remove_tree(state_dir / "build-caches", ignore_errors=True)
    return found


def _all(state_dir: Path) -> list[Path]:
    try:
        return list((state_dir / "build-caches").iterdir())
    except FileNotFoundError:
        return []
