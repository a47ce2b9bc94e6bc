"""A container's log: each line with time and stream, a full file put aside; and its reader.

The format is the one of CRI and conmon (`k8s-file`)::

    2026-01-31T12:00:00.123456789Z stdout F a whole line
    2026-01-31T12:00:00.123456789Z stderr P the beginning of a line, more follows

So any bytes but newline stand as the program wrote them, partial lines appear at once, and nothing is lost.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from backends.container import LogLimits
from backends.model import LogLine
from backends.native import rotation
from backends.native.rotation import RotatedFile, whole_lines


class LogWriter:
    """Appends what the program writes; a full file is put aside, and the oldest goes."""

    def __init__(self, path: Path, limits: LogLimits | None = None) -> None:
        self._path, self._limits = path, limits or LogLimits()
        self._second = -1
        self._prefix = b""
        self._lost = 0
        self._why = ""
        self._open(path)

    def write(self, stream: str, data: bytes) -> None:
        """Log a piece of output. What cannot be written (disk full) is lost and told later; the program goes on."""
        head = self._now() + b" " + stream.encode()
        pieces = data.split(b"\n")
        lines = [head + b" F " + piece + b"\n" for piece in pieces[:-1]]
        if pieces[-1]:
            lines.append(head + b" P " + pieces[-1] + b"\n")
        if self._lost:
            mark = f"[innkeeper: {self._lost} bytes of output are lost: {self._why}]"
            lines.insert(0, self._now() + b" stderr F " + mark.encode() + b"\n")
        try:
            for text in _batches(lines, self._limits.max_bytes):
                self._append(text)
            self._lost = 0
        except OSError as error:
            self._lost += len(data)
            self._why = error.strerror or str(error)

    def is_held_up(self) -> bool:
        """Say whether the file has outgrown its size because of one who reads and is to miss nothing."""
        most = self._limits.max_bytes
        return bool(most) and self._size > most and not self._may_put_aside()

    def hold(self) -> int:
        """Keep all from now on for a reader, who is given the descriptor and closes it when it reads."""
        return rotation.hold(self._path)

    def clear(self) -> None:
        """Forget all that was written so far."""
        rotation.forget_older(self._path)
        os.ftruncate(self._fd, 0)
        self._size = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _append(self, text: bytes) -> None:
        most = self._limits.max_bytes
        if most and self._size and self._size + len(text) > most and self._may_put_aside():
            self._put_aside()
        written = os.write(self._fd, text)
        if written < len(text):
            os.ftruncate(self._fd, self._size)  # half a line would spoil the next one
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written

    def _may_put_aside(self) -> bool:
        return not rotation.is_held(self._path.with_name(f"{self._path.name}.{self._older}"))

    @property
    def _older(self) -> int:
        """How many are kept beside the newest; also where none is to be, one that is read stays until it has been."""
        return max(1, self._limits.max_files - 1)

    def _put_aside(self) -> None:
        if self._limits.max_files <= 1 and not rotation.is_held(self._path):
            self.clear()
            return
        before, draft = self._fd, self._path.with_name(f".{self._path.name}")
        self._open(draft)  # first: without room for a new one the old one goes on
        rotation.shift(self._path, self._older)
        draft.rename(self._path)
        os.close(before)

    def _open(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _now(self) -> bytes:
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        return b"%s.%09dZ" % (self._prefix, nanoseconds)


def _batches(lines: list[bytes], most: int) -> Iterator[bytes]:
    """Yield the lines in as few pieces as fit into files of at most so many bytes; 0: in one."""
    if not most or sum(map(len, lines)) <= most:
        yield b"".join(lines)
        return
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if batch and size + len(line) > most:
            yield b"".join(batch)
            batch, size = [], 0
        batch.append(line)
        size += len(line)
    yield b"".join(batch)


def parse(line: bytes) -> LogLine | None:
    """Return what one line of the file says; None for a line that is not whole."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[2] not in (b"F", b"P"):
        return None
    try:
        time_s = _second(parts[0][:19]) + float(b"0" + parts[0][19:-1])
    except ValueError:
        return None
    return LogLine(time_s, parts[1].decode(), parts[3] + (b"\n" if parts[2] == b"F" else b""))


@lru_cache(4)
def _second(text: bytes) -> float:
    return datetime.strptime(text.decode(), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()


def read(path: Path, *, tail: int | None = None) -> Iterator[LogLine]:
    """Yield what is in the log now; with tail only the last so many whole lines."""
    with RotatedFile(path) as file:
        yield from _parsed(file.lines(None if tail is None else _start_of_tail, tail or 0))


def follow(
    path: Path,
    has_ended: Callable[[], bool],
    stop: Callable[[], bool],
    *,
    tail: int | None = None,
) -> Iterator[LogLine]:
    """Yield the log as it grows, until the guest has ended and all is read, or stop() says so.

    The files are opened by the call, and stay open: nothing that is written from then on is missed, and all of it is
    read to the end even if the guest is removed meanwhile.
    """
    opened = RotatedFile(path)
    last = opened.lines(None if tail is None else _start_of_tail, tail or 0)
    return _followed(opened, last, has_ended, stop)


def _followed(
    opened: RotatedFile, last: Iterator[bytes], has_ended: Callable[[], bool], stop: Callable[[], bool]
) -> Iterator[LogLine]:
    with opened as file:
        yield from _parsed(last)
        yield from _parsed(file.follow(has_ended, stop))


def stream(path: Path, has_ended: Callable[[], bool], stop: Callable[[], bool]) -> Iterator[LogLine]:
    """Yield the log as it grows, in pieces of one stream each; from the call on the program waits for their reader."""
    return _pieces(RotatedFile(path, holds=True), has_ended, stop)


def _pieces(opened: RotatedFile, has_ended: Callable[[], bool], stop: Callable[[], bool]) -> Iterator[LogLine]:
    with opened as file:
        for blocks in (file.blocks(), file.follow_blocks(has_ended, stop)):
            for block in blocks:
                parts = [line.split(b" ", 3) for line in block]
                for name, lines in groupby((part for part in parts if len(part) == 4), itemgetter(1)):
                    data = b"".join([text + b"\n" if kind == b"F" else text for _, _, kind, text in lines])
                    yield LogLine(time.time(), name.decode(), data)


def clear(path: Path) -> None:
    """Forget all that was written; for a log that nobody writes."""
    rotation.forget_older(path)
    with suppress(FileNotFoundError):
        os.truncate(path, 0)


def _parsed(lines: Iterator[bytes]) -> Iterator[LogLine]:
    for line in lines:
        found = parse(line)
        if found is not None:
            yield found


def _start_of_tail(file: BinaryIO, tail: int) -> tuple[int, int]:
    """Return where the last `tail` lines as the program wrote them begin, and how many they are."""
    starts: deque[int] = deque(maxlen=max(0, tail))
    partial: set[bytes] = set()
    offset = 0
    for line in whole_lines(file, 0):
        parts = line.split(b" ", 3)
        if len(parts) == 4:
            if parts[1] not in partial:
                starts.append(offset)
            (partial.add if parts[2] == b"P" else partial.discard)(parts[1])
        offset += len(line) + 1
    return starts[0] if starts else offset, len(starts)
