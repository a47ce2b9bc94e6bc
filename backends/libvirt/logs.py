"""What a guest printed on its serial console, from the file that libvirt writes it to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

from backends.errors import NotFound, PermissionDenied
from backends.model import LogLine

POLL_S = 0.2
_CHUNK_BYTES = 65_536
_MAX_LINE_BYTES = 65_536


def read_log(
    path: str, *, follow: bool, tail: int | None, stop: Callable[[], bool], is_live: Callable[[], bool]
) -> Iterator[LogLine]:
    """Yield the lines of the file; with follow go on, also over a rotation, until the guest ends or stop() is true.

    libvirt notes no times: old lines carry the time of the file's last change, new ones that of reading.
    """
    file = _open(path)
    try:
        changed_s = os.fstat(file.fileno()).st_mtime
        rest = b""
        lines, rest = _split(rest + file.read())
        if not follow and rest:
            lines, rest = [*lines, rest], b""
        for line in lines if tail is None else lines[-tail:] if tail else []:
            yield LogLine(changed_s, "console", line)
        while follow and not stop():
            chunk = file.read(_CHUNK_BYTES)
            if not chunk:
                if _is_rotated(file, path):
                    file.close()
                    file = _open(path)
                elif not is_live():
                    break
                else:
                    time.sleep(POLL_S)
                continue
            lines, rest = _split(rest + chunk)
            for line in lines:
                yield LogLine(time.time(), "console", line)
        if rest:
            yield LogLine(time.time(), "console", rest)
    finally:
        file.close()


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole lines and what is left; a line without an end is cut at 64 KiB."""
    lines = data.splitlines(keepends=True)
    rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
    if len(rest) >= _MAX_LINE_BYTES:
        return [*lines, rest], b""
    return lines, rest


def _is_rotated(file: BinaryIO, path: str) -> bool:
    try:
        now = os.stat(path)
    except FileNotFoundError:
        return False
    own = os.fstat(file.fileno())
    return (now.st_ino, now.st_dev) != (own.st_ino, own.st_dev) or now.st_size < file.tell()


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        hint = "libvirt makes it at the next start"
        raise NotFound(f"the console log {path} does not exist yet", hint=hint) from error
    except PermissionError as error:
        raise PermissionDenied(f"cannot read the console log {path}: {error.strerror}") from error
