"""Copies between the user's terminal and a program's pseudo-terminal in a guest."""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import TYPE_CHECKING

from app.cli.terminal import terminal_size
from backends.errors import InnkeeperError

if TYPE_CHECKING:
    from app.cli.output import Output
    from app.cli.terminal import DetachKeys, Signals
    from backends.sessions import ExecSession

_MOST_WAITING = 65536
"""Input bytes that wait for a program that does not read; then we read no more of our own."""

_QUIET_MS = 100
"""How long nothing may come after the program's end before we stop looking for more."""


class Waiter:
    """Waits for a session's end on a thread of its own, and tells through a descriptor."""

    def __init__(self, session: ExecSession) -> None:
        self._session = session
        self._result: int | InnkeeperError = 0
        self.fd, self._writing = os.pipe()
        self._thread = threading.Thread(target=self._wait, name="wait", daemon=True)

    def __enter__(self) -> Waiter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def _wait(self) -> None:
        try:
            self._result = self._session.wait()
        except InnkeeperError as error:
            self._result = error
        finally:
            os.close(self._writing)  # end-of-file is the sign; it also works when nobody looks any more

    def code(self) -> int:
        """Return the exit code, once the descriptor is readable; raise what the waiting raised."""
        self._thread.join()
        if isinstance(self._result, InnkeeperError):
            raise self._result
        return self._result


class Bridge:
    """One session with a terminal, copied until its program ends or the user leaves."""

    def __init__(
        self,
        out: Output,
        session: ExecSession,
        signals: Signals,
        *,
        takes_input: bool,
        detach: DetachKeys | None = None,
    ) -> None:
        assert session.terminal_fd is not None
        self._out, self._session, self._signals, self._detach = out, session, signals, detach
        self._terminal = session.terminal_fd
        self._takes_input = takes_input
        self._waiting = b""
        self._is_open = True
        self.has_left = False
        """True once the user pressed the detach keys."""

    def run(self) -> int:
        """Copy; return the program's exit code, 0 if the user left, 128+n if a signal ended us."""
        os.set_blocking(self._terminal, False)
        with Waiter(self._session) as waiter:
            while True:
                ready = self._ready(waiter.fd)
                if self._signals.fd in ready and (number := self._heed()):
                    return 128 + number
                if self._terminal in ready:
                    self._copy_output()
                if 0 in ready and self._copy_input():
                    self.has_left = True
                    return 0
                if waiter.fd in ready:
                    self._drain()
                    return waiter.code()

    def _ready(self, ended: int) -> list[int]:
        reading = [self._signals.fd, ended]
        if self._is_open:
            reading.append(self._terminal)
        if self._takes_input and len(self._waiting) < _MOST_WAITING:
            reading.append(0)
        writing = [self._terminal] if self._waiting and self._is_open else []
        ready, writable, _ = select.select(reading, writing, [])
        if writable:
            self._flush_input()
        return ready

    def _heed(self) -> int:
        """Follow the window's size; return the signal that ends us, or 0."""
        for number in self._signals.take():
            if number != signal.SIGWINCH:
                return number
            size = terminal_size()
            if size is not None:
                self._session.resize(*size)
        return 0

    def _copy_output(self) -> bool:
        """Copy what is there; return False at its end or when there is nothing."""
        try:
            data = os.read(self._terminal, 65536)
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody holds the other end any more
            data = b""
        if not data:
            self._is_open = False
            return False
        self._out.raw(data)
        return True

    def _copy_input(self) -> bool:
        """Take what was typed; return True if the user wants to leave."""
        data = os.read(0, 65536)
        if not data:
            self._takes_input = False
            data, is_leaving = b"\x04", False
        else:
            data, is_leaving = self._detach.feed(data) if self._detach is not None else (data, False)
        self._waiting += data
        self._flush_input()
        return is_leaving

    def _flush_input(self) -> None:
        try:
            written = os.write(self._terminal, self._waiting) if self._waiting else 0
        except BlockingIOError:
            return
        except OSError:
            self._waiting = b""
            return
        self._waiting = self._waiting[written:]

    def _drain(self) -> None:
        """Copy what the program wrote before it ended; a child of it that lives on does not keep us."""
        poll = select.poll()
        poll.register(self._terminal, select.POLLIN)
        while self._is_open and poll.poll(_QUIET_MS) and self._copy_output():
            continue
