"""Files that are put aside when they are full: NAME, NAME.1, NAME.2 … from newest to oldest.

A reader holds the file itself, not its name, so that what it reads stays in order while files are renamed. One that is
to miss nothing has a shared lock on what it is reading, too: files go oldest first, so none goes before it was read.
"""

from __future__ import annotations

import fcntl
import os
import select
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from backends.kernel import linux

_BLOCK = 65536
_PATIENCE_S = 0.2
_IN_MOVE_SELF = 0x800
_CHANGES = linux.IN_MODIFY | linux.IN_CLOSE_WRITE | linux.IN_DELETE_SELF | _IN_MOVE_SELF

Place = tuple[BinaryIO, int]
"""A file, and where in it to begin."""


def names(path: Path) -> list[Path]:
    """Return the names there are, newest first. While files are put aside there is a gap somewhere, which comes too."""
    numbers = (name.removeprefix(f"{path.name}.") for name in os.listdir(path.parent) if name != path.name)
    most = max((int(number) for number in numbers if number.isascii() and number.isdigit()), default=0)
    return [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, most + 1))]


def shift(path: Path, keep: int) -> None:
    """Put the file aside, keeping at most so many older ones. Raises OSError."""
    for number in range(keep, 0, -1):
        younger = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
        with suppress(FileNotFoundError):
            younger.rename(path.with_name(f"{path.name}.{number}"))


def forget_older(path: Path) -> None:
    """Delete all that was put aside."""
    for older in names(path)[1:]:
        older.unlink(missing_ok=True)


def hold(path: Path) -> int:
    """Open a file so that it is held; the caller closes the descriptor, or hands it on. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def is_held(path: Path) -> bool:
    """Say whether there is such a file, and somebody who reads it and is to miss nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


class RotatedFile:
    """All of a file that is put aside now and then, as one row of lines; close it.

    With `holds` nothing that it has not read is given up: a writer that asks is_held() waits for it.
    """

    def __init__(self, path: Path, *, holds: bool = False) -> None:
        self._path, self._holds = path, holds
        self._files = _open_all(path, set(), holds=holds)

    def __enter__(self) -> RotatedFile:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def lines(self, tail: Callable[[BinaryIO, int], tuple[int, int]] | None = None, most: int = 0) -> Iterator[bytes]:
        """Yield the whole lines there are, without newline, oldest first.

        With tail only the last: it is asked of each file, newest first, with how many are still wanted, and
        returns the offset where they begin and how many they are; at the time of the call.
        """
        return (line for block in self.blocks(tail, most) for line in block)

    def blocks(
        self, tail: Callable[[BinaryIO, int], tuple[int, int]] | None = None, most: int = 0
    ) -> Iterator[list[bytes]]:
        """Yield the same, as many lines at once as come at once."""
        return (block for file, offset in self._places(tail, most) for block in whole_blocks(file, offset))

    def _places(self, tail: Callable[[BinaryIO, int], tuple[int, int]] | None, most: int) -> list[Place]:
        if tail is None:
            return [(file, 0) for file in self._files]
        places: deque[Place] = deque()
        for file in reversed(self._files):
            offset, found = tail(file, most) if most > 0 else (os.fstat(file.fileno()).st_size, 0)
            places.appendleft((file, offset))
            most -= found
        return list(places)

    def follow(self, has_ended: Callable[[], bool], stop: Callable[[], bool]) -> Iterator[bytes]:
        """Yield the lines that come after those already read, until it has ended and all is read, or stop() says so."""
        for block in self.follow_blocks(has_ended, stop):
            yield from block

    def follow_blocks(self, has_ended: Callable[[], bool], stop: Callable[[], bool]) -> Iterator[list[bytes]]:
        """Yield the same, as many lines at once as come at once."""
        self._let_go_of(self._files[:-1])
        watch = linux.inotify_init()
        try:
            while not stop():
                # Asked before the last read: what was written until the end is then in the file.
                ended = has_ended()
                yield from self._news(watch)
                if ended:
                    return
                if select.select([watch], [], [], _PATIENCE_S)[0]:
                    with suppress(OSError):
                        os.read(watch, 4096)
        finally:
            os.close(watch)

    def _news(self, watch: int) -> Iterator[list[bytes]]:
        while True:
            newer = self._newer()  # first: once there is a newer one, nothing more is written to ours
            if not newer:
                with suppress(OSError):
                    linux.inotify_add_watch(watch, self._path, _CHANGES)
            if self._files:
                yield from self._rest(self._files[-1])
            if not newer:
                return
            ours, self._files = self._files, newer
            for file in ours:
                file.close()
            for file in newer[:-1]:
                yield from self._rest(file)
                self._let_go_of([file])

    def _rest(self, file: BinaryIO) -> Iterator[list[bytes]]:
        offset = file.tell()
        if os.fstat(file.fileno()).st_size < offset:
            offset = 0  # it was cleared
        yield from whole_blocks(file, offset)

    def _let_go_of(self, files: list[BinaryIO]) -> None:
        for file in files:
            file.close()
        self._files = [file for file in self._files if file not in files]

    def _newer(self) -> list[BinaryIO]:
        """Open what came after the file being read, oldest first; nothing if that is still the newest."""
        if not self._files:
            return _open_all(self._path, set(), holds=self._holds)
        ours = os.fstat(self._files[-1].fileno())
        try:
            if os.stat(self._path).st_ino == ours.st_ino:
                return []
        except FileNotFoundError:
            return []
        return _open_all(self._path, {ours.st_ino}, until=ours.st_ino, holds=self._holds)


def _open_all(path: Path, seen: set[int], until: int = 0, *, holds: bool = False) -> list[BinaryIO]:
    """Open the files, oldest first, up to the one with the inode `until`."""
    found: deque[BinaryIO] = deque()
    with ExitStack() as stack:
        # One more: the oldest may be renamed meanwhile.
        for name in [*(there := names(path)), path.with_name(f"{path.name}.{len(there)}")]:
            try:
                file = name.open("rb", buffering=_BLOCK)
            except FileNotFoundError:
                continue
            stack.push(file.__exit__)
            inode = os.fstat(file.fileno()).st_ino
            if until and inode == until:
                file.close()
                break
            # Newest first: one that is renamed meanwhile comes twice, and none is missed.
            if inode in seen:
                file.close()
                continue
            if holds:
                fcntl.flock(file, fcntl.LOCK_SH)
            seen.add(inode)
            found.appendleft(file)
        stack.pop_all()
    return list(found)


def whole_lines(file: BinaryIO, offset: int) -> Iterator[bytes]:
    """Yield the whole lines from an offset on, without newline; the file then stands behind the last one."""
    for block in whole_blocks(file, offset):
        yield from block


def whole_blocks(file: BinaryIO, offset: int) -> Iterator[list[bytes]]:
    """Yield the whole lines from an offset on, as many at once as fit a block; the file stands behind them then."""
    file.seek(offset)
    while pieces := file.readlines(_BLOCK):
        # A line can come in two: one of which half was there at first (a write is seen page by page).
        *block, rest = b"".join(pieces).split(b"\n")
        if rest:
            file.seek(-len(rest), os.SEEK_CUR)
        if block:
            yield block
        if rest:
            return
