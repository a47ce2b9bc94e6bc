"""Where a container that is created waits until it is started.

SocketGate: the runtime that created it still listens, and says "start" over the same connection.
FifoGate: the runtime has gone. As with runc, init opens a fifo in the state folder for writing, which blocks
until `start` opens it for reading. Init then says "0" right before execve, or why there is no program.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from contextlib import suppress
from typing import Any, Protocol

from backends import quick_json
from backends.errors import StartFailed
from backends.oci import messages
from backends.oci.errors import NotRunning
from backends.oci.terminal import reset_signals

_MAX_ANSWER = 16_384


class Gate(Protocol):
    """Init's side of the gate; all but open() runs in init."""

    def open(self) -> None:
        """In the runtime, before the fork: take hold of what init needs."""
        ...

    def wait(self, sync: socket.socket) -> int:
        """Block until the container is started; return the descriptor that execve is to close by itself."""
        ...

    def leave(self) -> None:
        """Say that execve is next."""
        ...

    def fail(self, message: dict[str, Any]) -> None:
        """Say that there is no program, and why."""
        ...

    def close(self) -> None:
        """In the runtime, after the fork."""
        ...


class SocketGate:
    """A gate for a runtime that stays until the program runs."""

    def __init__(self, *, is_open: bool = False) -> None:
        self._is_open = is_open
        """Start as soon as created, without another round trip."""

        self._sync: socket.socket | None = None

    def open(self) -> None:
        """Nothing: the connection is there anyway."""

    def wait(self, sync: socket.socket) -> int:
        self._sync = sync
        if not self._is_open:
            messages.receive(sync)
        return sync.fileno()

    def leave(self) -> None:
        """Nothing: execve closes the connection."""

    def fail(self, message: dict[str, Any]) -> None:
        with suppress(messages.Closed, OSError):
            if self._sync is not None:
                messages.send(self._sync, message)

    def close(self) -> None:
        """Nothing."""


class FifoGate:
    """A gate for a runtime that ends after create."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._place = self._fifo = -1

    def open(self) -> None:
        """Take hold of the fifo, which init cannot reach by name any more when it waits."""
        self._place = os.open(self._path, os.O_PATH | os.O_CLOEXEC)

    def wait(self, sync: socket.socket) -> int:
        sync.close()
        _mortal()
        self._fifo = os.open(f"/proc/self/fd/{self._place}", os.O_WRONLY | os.O_CLOEXEC)
        os.close(self._place)
        reset_signals()
        return self._fifo

    def leave(self) -> None:
        with suppress(BrokenPipeError):
            os.write(self._fifo, b"0")

    def fail(self, message: dict[str, Any]) -> None:
        with suppress(OSError):
            if self._fifo >= 0:
                os.write(self._fifo, quick_json.dumps(message).encode())

    def close(self) -> None:
        if self._place >= 0:
            os.close(self._place)
            self._place = -1


def _mortal() -> None:
    """Let the usual signals end a first process that waits: the kernel spares one that has no handler for them."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda caught, _: os._exit(128 + caught))


def start_by_fifo(path: str, pidfd: int, timeout_s: float | None = None) -> None:
    """Open the gate of a created container and wait until its program runs.

    Raises FileNotFoundError (started before), NotRunning (init is dead), StartFailed (as init says).
    """
    fifo = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        answer = _read_to_end(fifo, pidfd, timeout_s)
    finally:
        os.close(fifo)
    said = answer[1:] if answer[:1] == b"0" else answer
    if said:
        _raise(said)
    if not answer:
        raise NotRunning("cannot start a container that has stopped")


def _raise(said: bytes) -> None:
    try:
        message = quick_json.loads(said.decode())
        text, code, hint = str(message["failed"]), int(message["exit_code"]), str(message.get("hint", ""))
    except (ValueError, KeyError, TypeError) as error:
        raise StartFailed("its init died before it ran the program") from error
    raise StartFailed(text, exit_code=code, hint=hint)


def _read_to_end(fifo: int, pidfd: int, timeout_s: float | None) -> bytes:
    """Read what init writes. Before it has opened its end, a read says end of file: only poll tells them apart."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    watch = select.poll()
    watch.register(fifo, select.POLLIN)
    watch.register(pidfd, select.POLLIN)
    answer = b""
    while True:
        left_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = dict(watch.poll(left_ms))
        if not ready:
            raise StartFailed("it did not start in time")
        events = ready.get(fifo, 0)
        if events & select.POLLIN and len(answer) < _MAX_ANSWER:
            answer += os.read(fifo, _MAX_ANSWER)
        elif events & select.POLLHUP or fifo not in ready:
            return answer
