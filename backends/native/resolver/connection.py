"""One TCP connection of a container: questions one after the other, each with its length before it (RFC 7766)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from backends.native.resolver.asker import Asker
from backends.native.resolver.loop import READ, WRITE, Loop

_LENGTH = struct.Struct("!H")
_IDLE_S = 10.0

Answer = Callable[[Asker, bytes, Callable[[bytes], None]], bool]


class Connection:
    """Reads a question, has it answered, and only then reads the next."""

    def __init__(self, loop: Loop, asker: Asker, sock: socket.socket, answer: Answer) -> None:
        self._loop, self._asker, self._sock, self._answer = loop, asker, sock, answer
        self._received, self._sending = b"", b""
        asker.connections.add(self)
        self._timer = loop.after(_IDLE_S, self.close)
        loop.watch(sock.fileno(), READ, self._read)

    def _read(self) -> None:
        try:
            data = self._sock.recv(_LENGTH.size + 65_535 - len(self._received))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._received += data
        self._take()

    def _take(self) -> None:
        """Answer the first question that is all there."""
        if len(self._received) < _LENGTH.size:
            return
        (length,) = _LENGTH.unpack_from(self._received)
        end = _LENGTH.size + length
        if len(self._received) < end:
            return
        question, self._received = self._received[_LENGTH.size : end], self._received[end:]
        self._loop.ignore(self._sock.fileno())
        if not self._asker.may_ask() or not self._answer(self._asker, question, self._reply):
            self.close()

    def _reply(self, data: bytes) -> None:
        if self._sock.fileno() < 0:
            return  # closed meanwhile
        self._timer.cancel()
        self._timer = self._loop.after(_IDLE_S, self.close)
        self._sending = _LENGTH.pack(len(data)) + data
        self._loop.watch(self._sock.fileno(), WRITE, self._write)

    def _write(self) -> None:
        try:
            self._sending = self._sending[self._sock.send(self._sending) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not self._sending:
            self._loop.watch(self._sock.fileno(), READ, self._read)
            self._take()

    def close(self) -> None:
        """End it."""
        self._timer.cancel()
        if self._sock.fileno() >= 0:
            self._loop.ignore(self._sock.fileno())
            self._sock.close()
        self._asker.connections.discard(self)
