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
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

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
    for line, _ in _lines(path, _start_of_tail(path, tail)):
        found = parse(line)
        if found is not None:
            yield found


def follow(
    path: Path, has_ended: Callable[[], bool], stop: Callable[[], bool], *, tail: int | None = None
) -> Iterator[LogLine]:
    """Yield the log as it grows, until the guest has ended and all is read, or stop() says so."""
    offset = _start_of_tail(path, tail)
    with suppress(FileNotFoundError):
        yield from _follow(path, offset, has_ended, stop)


def _follow(
    path: Path, offset: int, has_ended: Callable[[], bool], stop: Callable[[], bool]
) -> Iterator[LogLine]:
    watch = linux.inotify_init()
    try:
        linux.inotify_add_watch(watch, path, linux.IN_MODIFY | linux.IN_DELETE_SELF)
        while not stop():
            # Asked before the last read: what was written until the end is then in the file.
            ended = has_ended()
            for line, after in _lines(path, offset):
                offset = after
                found = parse(line)
                if found is not None:
                    yield found
            if ended or not path.exists():
                return
            if select.select([watch], [], [], 0.2)[0]:
                os.read(watch, 4096)
    finally:
        os.close(watch)


def _lines(path: Path, offset: int) -> Iterator[tuple[bytes, int]]:
    """Yield (line without newline, offset behind it) of the whole lines from offset on."""
    with path.open("rb", buffering=_BLOCK) as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield line[:-1], offset


def _start_of_tail(path: Path, tail: int | None) -> int:
    """Return the offset where the last `tail` lines as the program wrote them begin."""
    if tail is None or not path.exists():
        return 0
    starts = [0]
    partial: set[bytes] = set()
    for line, after in _lines(path, 0):
        parts = line.split(b" ", 3)
        if len(parts) < 4:
            continue
        begins_new = parts[1] not in partial
        if begins_new:
            starts.append(after - len(line) - 1)
        (partial.add if parts[2] == b"P" else partial.discard)(parts[1])
    lines = starts[1:]
    if tail <= 0 or not lines:
        return path.stat().st_size if tail <= 0 else 0
    return lines[-tail] if tail < len(lines) else 0
