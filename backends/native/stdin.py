"""The way from an attached client to the program's standard input, with back-pressure and no loss."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Callable

_BLOCK = 65536
_END_OF_TRANSMISSION = b"\x04"


class InputPump:
    """Writes what clients send; while the program does not read, it does not read from them either."""

    def __init__(self, selector: selectors.BaseSelector, fd: int, *, is_terminal: bool) -> None:
        self._selector, self.fd, self.is_terminal = selector, fd, is_terminal
        self._writer = os.dup(fd)  # an fd of its own: a terminal's master is registered for reading already
        os.set_blocking(self._writer, False)
        self._buffer = bytearray()
        self._ends = False
        self._held: list[tuple[socket.socket, Callable[[], None]]] = []
        self._waits = False

    def feed(self, data: bytes, client: socket.socket, on_readable: Callable[[], None]) -> None:
        """Queue bytes; the client is not listened to until they are written."""
        self._buffer += data
        self._flush()
        if self._buffer:
            self._selector.unregister(client)
            self._held.append((client, on_readable))

    def end(self) -> None:
        """Give the program end-of-file after what is queued."""
        if self.is_terminal:
            self._buffer += _END_OF_TRANSMISSION
        else:
            self._ends = True
        self._flush()

    def forget(self, client: socket.socket) -> None:
        """A client has gone."""
        self._held = [entry for entry in self._held if entry[0] is not client]

    def close(self) -> None:
        """Close both descriptors of a pipe; a terminal's master belongs to its reader."""
        if self._writer < 0:
            return
        self._stop_waiting()
        os.close(self._writer)
        self._writer = -1
        if not self.is_terminal:
            os.close(self.fd)

    def _flush(self) -> None:
        while self._buffer and self._writer >= 0:
            try:
                written = os.write(self._writer, self._buffer[:_BLOCK])
            except BlockingIOError:
                self._wait()
                return
            except OSError:
                self._buffer.clear()  # the program closed its input
                break
            del self._buffer[:written]
        self._stop_waiting()
        self._release()
        if self._ends:
            self.close()

    def _wait(self) -> None:
        if not self._waits:
            self._waits = True
            self._selector.register(self._writer, selectors.EVENT_WRITE, self._flush)

    def _stop_waiting(self) -> None:
        if self._waits:
            self._waits = False
            self._selector.unregister(self._writer)

    def _release(self) -> None:
        held, self._held = self._held, []
        for client, on_readable in held:
            self._selector.register(client, selectors.EVENT_READ, on_readable)
