"""How much a layer may unpack to, and the writing of its files within that."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from backends.native.layers.headers import BadLayer

_BLOCK = 1 << 20
HOLE = 64 << 10
_ZEROS = bytes(HOLE)
"""So many zeros in a file become a hole."""

_CHECKED_BYTES = 64 << 20
"""After so much written the disk is looked at again."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What no layer may go beyond: against archives that are made to fill a disk or a memory."""

    entries: int = 4_000_000
    total_bytes: int = 1 << 40
    spare_bytes: int = 64 << 20
    """Of the disk, that no layer may take."""

    depth: int = 256
    """Folders in one another: what removes or lists them recurses."""

    memory_bytes: int = 2 << 30
    """Of this process: a tar's headers can be of any size."""


class Source(Protocol):
    """Where a file's content comes from."""

    def read(self, size: int, /) -> bytes: ...


class Room:
    """What is left of a layer's bounds, and of the disk that the root folder of this process is on."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._taken = self._checked = 0

    def fill(self, fd: int, source: Source, size: int) -> None:
        """Write so many bytes of a source, holes for zeros. Raises BadLayer, OSError."""
        while size > 0:
            block = source.read(min(size, _BLOCK))
            if not block:
                raise BadLayer("it is cut short")
            size -= len(block)
            self._taken += len(block)
            if self._taken - self._checked > _CHECKED_BYTES:
                self.check(0)
            for begin in range(0, len(block), HOLE):
                piece = block[begin : begin + HOLE]
                if piece == _ZEROS:
                    os.lseek(fd, HOLE, os.SEEK_CUR)  # as sparse files are packed, by us too
                else:
                    _write(fd, piece)

    def check(self, wanted: int) -> None:
        """Raise BadLayer where there is no room for so many bytes more."""
        if wanted > self._bounds.total_bytes or self._taken > self._bounds.total_bytes:
            raise BadLayer(f"there is no space for it: it is larger than {self._bounds.total_bytes >> 20} MiB")
        if wanted and wanted < _CHECKED_BYTES and self._taken - self._checked < _CHECKED_BYTES:
            return
        self._checked = self._taken
        space = os.statvfs("/")
        # A sparse file may be larger than the disk; what it holds is counted while it is written.
        if space.f_bavail * space.f_frsize < self._bounds.spare_bytes:
            raise BadLayer("there is no space left for it")


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
