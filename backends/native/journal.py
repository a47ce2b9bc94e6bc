"""What happened to containers, a line of JSON each, in STATE/events.jsonl: written by whoever did it.

::

    {"time": 1768…, "id": "0123…", "name": "web", "action": "die", "attributes": {"exit_code": "137"}}

A line is one write, so that writers do not mix. The file is bounded: a full one is put aside, and one older is kept.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends.native import rotation
from backends.native.rotation import RotatedFile

_NAME = "events.jsonl"
_MOST_BYTES = 1024**2
_KEPT = 1


class Journal:
    """The events of one state folder."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / _NAME

    def write(self, container_id: str, name: str, action: str, **attributes: object) -> None:
        """Tell what happened. On a full disk nobody hears of it; what happened goes on."""
        told = {key: str(value) for key, value in attributes.items() if value not in (None, "")}
        line = {"time": time.time(), "id": container_id, "name": name, "action": action, "attributes": told}
        with suppress(OSError):
            self._append(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def read(self, *, follow: bool, stop: Callable[[], bool], since_s: float | None = None) -> Iterator[dict[str, Any]]:
        """Yield what is known to have happened since then (None: nothing old), and with follow what happens."""
        self._touch()
        with RotatedFile(self._path) as file:
            for line in file.lines():
                event = _parse(line)
                if event is not None and since_s is not None and event["time"] >= since_s:
                    yield event
            if follow:
                yield from filter(None, map(_parse, file.follow(lambda: False, stop)))

    def _append(self, line: bytes) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.write(fd, line) < len(line):
                os.write(fd, b"\n")
            if os.fstat(fd).st_size > _MOST_BYTES:
                self._put_aside(fd)
        finally:
            os.close(fd)

    def _put_aside(self, fd: int) -> None:
        """Several may see that it is full at once: the first one does it."""
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_ino == os.stat(self._path).st_ino:
            rotation.shift(self._path, _KEPT)

    def _touch(self) -> None:
        with suppress(OSError):
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
        return event if isinstance(event, dict) and isinstance(event["time"], float) else None
    except (ValueError, KeyError):
        return None
