"""What a program writes, on its way from its pipes or its terminal to the log."""

from __future__ import annotations

import os
import selectors
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backends.native.supervisor import Supervisor

_READ = 65536
_CATCH_UP_S = 0.005


class Outputs:
    """The outputs of one supervisor's program: true as long as one is open."""

    def __init__(self, owner: Supervisor) -> None:
        self._owner = owner
        self._open: set[int] = set()
        self._held_back: dict[int, str] = {}
        """Those that are not read for now, and their streams."""

        self.due_s: float | None = None
        """When to look whether those held back are read on, on time.monotonic's clock; None: there are none."""

    def __bool__(self) -> bool:
        return bool(self._open)

    def watch(self, stream: str, fd: int) -> None:
        """Log what comes from there; close() closes it."""
        os.set_blocking(fd, False)
        self._open.add(fd)
        self._owner.selector.register(fd, selectors.EVENT_READ, lambda: self._copy(stream, fd))

    def look(self, now_s: float) -> None:
        """Read on what was held back, if it is time: the reader has caught up, or there is little left to come."""
        if self._owner.exit_code is None:
            if self.due_s is None or now_s < self.due_s:
                return
            if self._owner.log is not None and self._owner.log.is_held_up():
                self.due_s = now_s + _CATCH_UP_S
                return
        self.due_s = None
        held_back, self._held_back = self._held_back, {}
        for fd, stream in held_back.items():
            self.watch(stream, fd)

    def close(self) -> None:
        """Close them all, but the terminal, which is also where input goes."""
        for fd in list(self._open):
            self._forget(fd)
        self.due_s = None

    def _copy(self, stream: str, fd: int) -> None:
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # EIO: the last process closed the terminal
        log = self._owner.log
        if not data or log is None:
            self._forget(fd)
            return
        log.write(stream, data)
        if self._owner.exit_code is None and log.is_held_up():
            # Who runs it in the foreground has not caught up: the program waits, as at a pipe.
            self._owner.selector.unregister(fd)
            self._held_back[fd] = stream
            self.due_s = time.monotonic() + _CATCH_UP_S

    def _forget(self, fd: int) -> None:
        if self._held_back.pop(fd, None) is None:
            self._owner.selector.unregister(fd)
        self._open.discard(fd)
        if fd != self._owner.terminal_fd:
            os.close(fd)
