"""The terminal's side of a live container: its output to ours, our input, signals and window size to it.

Three threads: the caller's waits for signals and for the end, one copies the log out, one copies stdin in.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from app.cli.terminal import DETACH_KEYS, FORWARDED, DetachKeys, RawTerminal, Signals, terminal_size
from backends.capabilities import Attaching, Lifecycle, Logging, Streaming
from backends.errors import InnkeeperError, Unsupported
from backends.sessions import AttachSession
from backends.trace import Recorder

if TYPE_CHECKING:
    from app.cli.context import Context
    from backends.base import Backend
    from backends.model import GuestRef, LogLine

_KILL_WITHIN_S = 3.0
"""A second Ctrl-C within this time kills."""


class Foreground:
    """One container in the foreground. `whole`: it waits for us to take its output, as at a pipe."""

    def __init__(
        self,
        context: Context,
        backend: Backend,
        ref: GuestRef,
        *,
        stdin: bool,
        terminal: bool,
        whole: bool = False,
        tail: int | None = None,
        detach_keys: bytes = DETACH_KEYS,
    ) -> None:
        if not isinstance(backend, Logging):
            raise Unsupported(f"cannot follow {ref.id}: {backend.title} keeps no output")
        self._context, self._backend, self._ref = context, backend, ref
        self._takes_input, self._terminal, self._tail, self._is_whole = stdin, terminal, tail, whole
        self._detach_keys = detach_keys
        self._session: AttachSession | None = None
        self._is_over = threading.Event()
        self._lines = self._open_output()
        self._over_reading, self._over_writing = os.pipe()
        self._error: BaseException | None = None
        self._last_interrupt_s = float("-inf")
        self.is_detached = False
        """True once the user pressed the detach keys, or the terminal went away."""

    def _open_output(self) -> Iterator[LogLine]:
        """Open it at once: made before the start, this misses nothing, however much comes at once."""
        stop = self._is_over.is_set
        if self._is_whole and isinstance(self._backend, Streaming):
            return self._backend.stream(self._ref, stop=stop)
        assert isinstance(self._backend, Logging)
        return self._backend.logs(self._ref, follow=True, tail=self._tail, stop=stop)

    def run(self) -> None:
        """Copy until the container ends or the user detaches. Raises what the copying raised."""
        try:
            self._attach()
            with Signals(*FORWARDED, signal.SIGWINCH) as signals:
                if self._terminal and self._takes_input:
                    with RawTerminal(0):
                        self._copy(signals)
                else:
                    self._copy(signals)
        finally:
            self._is_over.set()
            if self._session is not None:
                self._session.close()
        if self._error is not None:
            raise self._error

    def _attach(self) -> None:
        if not isinstance(self._backend, Attaching) or not (self._takes_input or self._terminal):
            return
        try:
            self._session = self._backend.attach(self._ref, size=terminal_size() if self._terminal else None)
        except InnkeeperError:  # it has ended already; what it printed is still worth showing
            self._session = None

    def _copy(self, signals: Signals) -> None:
        output = threading.Thread(target=self._copy_output, name="output", daemon=True)
        output.start()
        if self._session is not None and self._takes_input:
            threading.Thread(target=self._copy_input, args=(self._session,), name="input", daemon=True).start()
        while not self._is_over.is_set():
            select.select([signals.fd, self._over_reading], [], [])
            for number in signals.take():
                self._signal(number)

    def _signal(self, number: int) -> None:
        if number == signal.SIGWINCH:
            self._resize()
        elif number == signal.SIGHUP and self._terminal:
            self.is_detached = True  # the terminal went away; the container does not go with it
            self._end()
        else:
            now_s = time.monotonic()
            if number == signal.SIGINT:
                if now_s - self._last_interrupt_s < _KILL_WITHIN_S:
                    number = signal.SIGKILL
                self._last_interrupt_s = now_s
            self._forward(number)

    def _resize(self) -> None:
        size = terminal_size()
        if self._session is not None and self._terminal and size is not None:
            try:
                self._session.resize(*size)
            except InnkeeperError:  # it has just ended
                return

    def _forward(self, number: int) -> None:
        if isinstance(self._backend, Lifecycle):
            try:
                self._backend.kill(self._ref, Recorder("host"), signal=number)
            except InnkeeperError as error:
                if number == signal.SIGKILL:
                    self._context.talk.error(error)

    def _copy_output(self) -> None:
        out, talk = self._context.out, self._context.talk
        try:
            for line in self._lines:
                (talk if line.stream == "stderr" else out).raw(line.data)
        except (InnkeeperError, OSError) as error:
            self._error = error
        finally:
            self._end()

    def _copy_input(self, session: AttachSession) -> None:
        detach = DetachKeys(self._detach_keys) if self._terminal else None
        try:
            while not self._is_over.is_set():
                select.select([0, self._over_reading], [], [])
                if self._is_over.is_set():
                    return
                data = os.read(0, 65536)
                if not data:
                    session.close_stdin()
                    return
                data, is_detach = detach.feed(data) if detach is not None else (data, False)
                if data:
                    session.write(data)
                if is_detach:
                    self.is_detached = True
                    self._end()
        except (InnkeeperError, OSError):  # it takes no more input; its end comes through the log
            return

    def _end(self) -> None:
        self._is_over.set()
        os.write(self._over_writing, b"x")
