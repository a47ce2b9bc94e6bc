"""A container's log: one file, each line with time and stream, and its reader.

The format is the one of CRI and conmon (`k8s-file`)::

    2026-01-31T12:00:00.123456789Z stdout F a whole line
    2026-01-31T12:00:00.123456789Z stderr P the beginning of a line, more follows

So any bytes but newline stand as the program wrote them, partial lines appear at once, and nothing is lost.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from backends.kernel import linux
from backends.model import LogLine

_BLOCK = 65536


class LogWriter:
    """Appends what the program writes."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._second = -1
        self._prefix = b""

    def write(self, stream: str, data: bytes) -> None:
        """Log a piece of output. What cannot be written (disk full) is lost; the program goes on."""
        head = self._now() + b" " + stream.encode()
        pieces = data.split(b"\n")
        lines = [head + b" F " + piece + b"\n" for piece in pieces[:-1]]
        if pieces[-1]:
            lines.append(head + b" P " + pieces[-1] + b"\n")
        with suppress(OSError):
            os.write(self._fd, b"".join(lines))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _now(self) -> bytes:
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        return b"%s.%09dZ" % (self._prefix, nanoseconds)


def parse(line: bytes) -> LogLine | None:
    """Return what one line of the file says; None for a line that is not whole."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[2] not in (b"F", b"P"):
        return None
    try:
        stamp = datetime.strptime(parts[0][:19].decode(), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()
        time_s = stamp + float(b"0" + parts[0][19:-1])
    except ValueError:
        return None
    return LogLine(time_s, parts[1].decode(), parts[3] + (b"\n" if parts[2] == b"F" else b""))


def read(path: Path, *, tail: int | None = None) -> Iterator[LogLine]:
    """Yield what is in the log now; with tail only the last so many whole lines."""
    with path.open("rb", buffering=_BLOCK) as file:
        yield from _parsed(file, _start_of_tail(file, tail))


def follow(
    path: Path, has_ended: Callable[[], bool], stop: Callable[[], bool], *, tail: int | None = None
) -> Iterator[LogLine]:
    """Yield the log as it grows, until the guest has ended and all is read, or stop() says so.

    The file stays open: what was written is read to the end even if the guest is removed meanwhile.
    """
    with suppress(FileNotFoundError), path.open("rb", buffering=_BLOCK) as file:
        watch = linux.inotify_init()
        try:
            linux.inotify_add_watch(watch, path, linux.IN_MODIFY | linux.IN_CLOSE_WRITE | linux.IN_DELETE_SELF)
            yield from _follow(file, watch, has_ended, stop, tail)
        finally:
            os.close(watch)


def _follow(
    file: BinaryIO, watch: int, has_ended: Callable[[], bool], stop: Callable[[], bool], tail: int | None
) -> Iterator[LogLine]:
    offset = _start_of_tail(file, tail)
    while not stop():
        # Asked before the last read: what was written until the end is then in the file.
        ended = has_ended()
        yield from _parsed(file, offset)
        offset = file.tell()
        if ended:
            return
        if select.select([watch], [], [], 0.2)[0]:
            os.read(watch, 4096)


def _parsed(file: BinaryIO, offset: int) -> Iterator[LogLine]:
    for line in _lines(file, offset):
        found = parse(line)
        if found is not None:
            yield found


def _lines(file: BinaryIO, offset: int) -> Iterator[bytes]:
    """Yield the whole lines from an offset on, without newline; the file then stands behind the last one."""
    file.seek(offset)
    while line := file.readline():
        if not line.endswith(b"\n"):
            file.seek(-len(line), os.SEEK_CUR)
            return
        yield line[:-1]


def _start_of_tail(file: BinaryIO, tail: int | None) -> int:
    """Return the offset where the last `tail` lines as the program wrote them begin."""
    if tail is None:
        return 0
    starts: deque[int] = deque(maxlen=max(0, tail))
    partial: set[bytes] = set()
    offset = 0
    for line in _lines(file, 0):
        parts = line.split(b" ", 3)
        if len(parts) == 4:
            if parts[1] not in partial:
                starts.append(offset)
            (partial.add if parts[2] == b"P" else partial.discard)(parts[1])
        offset += len(line) + 1
    return starts[0] if starts else offset
