"""Where a build works: a folder of its own that is locked while it lives, so that what a crash left can be told.

::

    STATE/builds/ID/    target/ source/ empty/ (mount points, never written to), N/ (upper and work of step N)
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backends.kernel.trees import remove_tree
from backends.native.store import ContainerStore

LABEL = "io.innkeeper.build"
"""Label of a container that runs a RUN; its value is the build's id."""


class Workshop:
    """The folder of one build."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._steps = 0
        for name in ("target", "source", "empty"):
            (folder / name).mkdir(mode=0o755)

    @property
    def id(self) -> str:
        """Of the build: six digits."""
        return self.folder.name

    def step(self) -> Path:
        """Return a new folder with upper/ and work/ for one step."""
        self._steps += 1
        place = self.folder / str(self._steps)
        for path in (place, place / "upper", place / "work"):
            path.mkdir(mode=0o755)
        return place


@contextmanager
def workshop(store: ContainerStore) -> Iterator[Workshop]:
    """Yield a workshop; nothing of it stays, and what a crash leaves of it `half_made` tells."""
    folder = store.state_dir / "builds" / secrets.token_hex(3)
    with store.making():  # so that nobody takes it for half made before it is locked
        folder.mkdir(mode=0o700, parents=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield Workshop(folder)
    finally:
        _remove(folder)
        os.close(fd)


def half_made(state_dir: Path) -> list[Path]:
    """Return the folders of builds that live no more."""
    found = []
    with suppress(FileNotFoundError):
        for path in (state_dir / "builds").iterdir():
            with suppress(OSError):
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    found.append(path)
                finally:
                    os.close(fd)
    return found


def lives(state_dir: Path, build_id: str) -> bool:
    """Say whether a build goes on."""
    path = state_dir / "builds" / build_id
    return path.is_dir() and path not in half_made(state_dir)


def _remove(folder: Path) -> None:
    remove_tree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()
