"""Which containers live: a lock that each supervisor holds as long as it does.

A file `alive` in the container's run folder: there and locked while its supervisor lives; there and not locked when
that died; not there when the container has ended in order. A process number could be another's by now; a lock cannot.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import time
from contextlib import suppress
from pathlib import Path

from backends.errors import Busy, NotFound

_LIFE, _CLEANING, _BOTH = (0, 1), (1, 1), (0, 2)
"""Bytes of the file `alive`, (start, length): a supervisor locks both, who cleans up after one the second."""


class LifeLocks:
    """The life locks of the containers of one state folder."""

    def __init__(self, containers: Path, running: Path) -> None:
        """containers holds a folder a container, running one for what there is only while it lives."""
        self._kept, self._running = containers, running

    def folder(self, container_id: str) -> Path:
        """Return where a container is kept."""
        return self._kept / container_id

    def run_folder(self, container_id: str) -> Path:
        """Return where its socket and life lock are."""
        return self._running / container_id

    def is_supervised(self, container_id: str) -> bool:
        """Say whether a supervisor holds the container's life lock: it does so as long as it lives."""
        try:
            fd = os.open(self._alive(container_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            # Only asked, never taken: else a look at the wrong moment would keep a supervisor from its lock.
            answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(*_LIFE))
        finally:
            os.close(fd)
        return bool(struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK)

    def supervisor_pid(self, container_id: str) -> int:
        """Return the process that holds the life lock. Raises NotFound if nobody does."""
        try:
            with open(self._alive(container_id), "rb") as file:
                answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _flock(*_LIFE))
        except FileNotFoundError:
            raise NotFound(f"container {container_id} has no supervisor") from None
        kind, _, _, _, pid = struct.unpack("hhqqi4x", answer)
        if kind == fcntl.F_UNLCK or pid <= 0:
            raise NotFound(f"container {container_id} has no supervisor")
        return int(pid)

    def is_orphaned(self, container_id: str) -> bool:
        """Say whether a supervisor died here without ending its container."""
        return self._alive(container_id).exists() and not self.is_supervised(container_id)

    def hold_life_lock(self, container_id: str, *, cleaning: bool = False, timeout_s: float = 0.0) -> int:
        """Take the life lock; returns the descriptor that holds it. Raises Busy after the time, NotFound.

        Who takes it for cleaning up keeps supervisors out, and is not taken for one.
        """
        path, deadline = self._alive(container_id), time.monotonic() + timeout_s
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if cleaning:
                    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(*_CLEANING))  # the descriptor's: we may have threads
                else:
                    fcntl.fcntl(fd, fcntl.F_SETLK, _flock(*_BOTH))  # the process's: not inherited by what it forks
            except (BlockingIOError, PermissionError):
                os.close(fd)
                if time.monotonic() > deadline:
                    raise Busy(f"container {container_id} has a supervisor already") from None
                time.sleep(0.002)
                continue
            with suppress(FileNotFoundError):
                if os.stat(path).st_ino == os.fstat(fd).st_ino:
                    break
            os.close(fd)  # its last holder released it between our open and our lock
        if not self.folder(container_id).exists():
            os.close(fd)
            shutil.rmtree(path.parent, ignore_errors=True)
            raise NotFound(f"no container {container_id}")
        return fd

    def release_life_lock(self, container_id: str, fd: int) -> None:
        """Say that all has ended in order."""
        self._alive(container_id).unlink(missing_ok=True)
        os.close(fd)

    def _alive(self, container_id: str) -> Path:
        return self.run_folder(container_id) / "alive"


def _flock(start: int, length: int) -> bytes:
    """Return a struct flock that asks for some bytes of a file (fcntl(2))."""
    return struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
