"""Datagrams of one sender to a port at ::1, and what the container answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress

from backends.native.resolver.loop import READ, Loop

_LARGEST = 65_535
_IDLE_S = 90.0
"""After so long a silence the container sees another sender."""


class Conversation:
    """One sender as the container sees it: a socket of ours, with a port of its own."""

    def __init__(
        self,
        loop: Loop,
        addresses: Callable[[], list[str]],
        port: int,
        reply: Callable[[bytes], None],
        ended: Callable[[], None],
    ) -> None:
        """addresses: tells where the container is, in the order in which that is tried."""
        self._loop, self._reply, self._ended = loop, reply, ended
        self._addresses, self._port = addresses, port
        self._untried: list[str] = []
        self._sock: socket.socket | None = None
        self._last = b""
        """Sent and perhaps refused: nobody has answered yet."""

        self._heard_s = time.monotonic()
        loop.after(_IDLE_S, self._look)

    def send(self, data: bytes) -> None:
        """Pass a datagram on to the container."""
        self._heard_s, self._last = time.monotonic(), data
        if self._sock is None:
            self._untried = self._addresses()
            self._try_next()
            return
        try:
            self._sock.send(data)
        except BlockingIOError:
            return
        except OSError:  # refused: nobody listens there
            self._try_next()

    def _try_next(self) -> None:
        """Send what was refused to the next address; with none left it is for nobody, and the next begins anew."""
        self._drop()
        while self._untried:
            address = self._untried.pop(0)
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            try:
                self._sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
                self._sock.connect((address, self._port))
                self._sock.send(self._last)
            except OSError:
                self._drop()
                continue
            self._loop.watch(self._sock.fileno(), READ, self._hear)
            return

    def _hear(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:
            self._try_next()
            return
        self._heard_s, self._last = time.monotonic(), b""
        with suppress(OSError):
            self._reply(data)

    def _look(self) -> None:
        """End it when all has been silent for long."""
        left_s = self._heard_s + _IDLE_S - time.monotonic()
        if left_s > 0:
            self._loop.after(left_s, self._look)
            return
        self._drop()
        self._ended()

    def _drop(self) -> None:
        if self._sock is not None:
            self._loop.ignore(self._sock.fileno())
            self._sock.close()
            self._sock = None
