"""One TCP connection to a port at ::1, and the one to the container that belongs to it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress

from backends.native.resolver.loop import READ, WRITE, Loop

_BUFFER = memoryview(bytearray(262_144))
_ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset."""


class _Way:
    """What goes from one socket to the other."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.left = b""
        """Read, and not yet taken by the sink."""

        self.has_ended = False

    def move(self) -> None:
        """Pass on what is there, at most one buffer. Raises OSError."""
        if self.left:
            self.left = self._send(memoryview(self.left))
        if self.left or self.has_ended:
            return
        try:
            count = self.source.recv_into(_BUFFER)
        except BlockingIOError:
            return
        if count:
            self.left = self._send(_BUFFER[:count])
        else:
            self.has_ended = True
            self.sink.shutdown(socket.SHUT_WR)

    def _send(self, data: memoryview) -> bytes:
        with suppress(BlockingIOError):
            data = data[self.sink.send(data) :]
        return bytes(data)


class Stream:
    """Both connections, and what goes to and fro."""

    def __init__(
        self, loop: Loop, client: socket.socket, addresses: Sequence[str], port: int, ended: Callable[[Stream], None]
    ) -> None:
        """addresses: of the container, in the order in which they are tried."""
        self._loop, self._client, self._ended = loop, client, ended
        self._addresses, self._port = list(addresses), port
        self._guest: socket.socket | None = None
        self._ways: tuple[_Way, ...] = ()
        loop.after(0.0, self._try_next)  # when the owner knows of it

    def _try_next(self) -> None:
        """Connect to the next address; turn the client away when there is none."""
        self._drop_guest()
        while self._addresses:
            address = self._addresses.pop(0)
            try:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                self._guest = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
                with suppress(BlockingIOError):
                    self._guest.connect((address, self._port))
            except OSError:
                self._drop_guest()
                continue
            self._loop.watch(self._guest.fileno(), WRITE, self._connected)
            return
        self._abort()

    def _connected(self) -> None:
        assert self._guest is not None
        if self._guest.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._try_next()
            return
        for sock in (self._client, self._guest):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ways = (_Way(self._client, self._guest), _Way(self._guest, self._client))
        self._move()

    def _move(self) -> None:
        try:
            for way in self._ways:
                way.move()
        except OSError:
            self._abort()
            return
        there, back = self._ways
        if all(way.has_ended and not way.left for way in self._ways):
            self._close()
            return
        self._watch(there.source, reads=there, writes=back)
        self._watch(back.source, reads=back, writes=there)

    def _watch(self, sock: socket.socket, *, reads: _Way, writes: _Way) -> None:
        events = (0 if reads.has_ended or reads.left else READ) | (WRITE if writes.left else 0)
        if events:
            self._loop.watch(sock.fileno(), events, self._move)
        else:
            self._loop.ignore(sock.fileno())

    def _abort(self) -> None:
        """One side has gone, or was never there: the other is told so by a reset."""
        for sock in (self._client, self._guest):
            if sock is not None:
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self._close()

    def _drop_guest(self) -> None:
        if self._guest is not None:
            self._loop.ignore(self._guest.fileno())
            self._guest.close()
            self._guest = None

    def _close(self) -> None:
        self._drop_guest()
        self._loop.ignore(self._client.fileno())
        self._client.close()
        self._ended(self)
