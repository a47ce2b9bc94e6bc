"""Asking others: the host's name servers, or those that a container was given.

One exchange has a socket of its own, connected to the server: its port is the kernel's choice, its number random, and
what comes from elsewhere never arrives. Each server is given a while, then the next is asked.
"""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from backends.native.resolver.message import Malformed, Question, parse_answer, with_id

PORT = 53
_LARGEST = 65_535
_FOR_TCP = struct.Struct("!H")

TRY_S = 2.0
"""What a server is given."""

TRIES = 3


class HostServers:
    """The name servers in the host's resolv.conf(5), as it is now."""

    def __init__(self, path: Path = Path("/etc/resolv.conf")) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._servers: tuple[str, ...] = ()

    def servers(self) -> tuple[str, ...]:
        """Return their addresses; a file that is missing or empty means one on this host, as for the C library."""
        try:
            found = self._path.stat()
            stamp = found.st_mtime_ns, found.st_ino
            if stamp != self._stamp:
                self._servers = servers_in(self._path.read_text(errors="replace"))
                self._stamp = stamp
        except OSError:
            self._servers, self._stamp = ("127.0.0.1",), None
        return self._servers


def servers_in(text: str) -> tuple[str, ...]:
    """Return the name servers of a resolv.conf."""
    words = [line.split() for line in text.splitlines()]
    return tuple(line[1] for line in words if len(line) > 1 and line[0] == "nameserver") or ("127.0.0.1",)


class Exchange:
    """One question that others are asked."""

    def __init__(
        self,
        question: Question,
        data: bytes,
        servers: Sequence[str],
        done: Callable[[bytes | None], None],
        *,
        tcp: bool,
    ) -> None:
        """done is called once, by the owner of the loop, with the answer under the asker's number, or None."""
        self.question, self.done, self._tcp = question, done, tcp
        self._servers = servers
        self._data = data
        self._tries = 0
        self._number = 0
        self._sending, self._received = b"", b""
        self.sock: socket.socket | None = None

    def begin(self) -> bool:
        """Ask the next server; False when all have had their chance."""
        self.close()
        while self._tries < min(TRIES, max(len(self._servers) * 2, 1)) and self._servers:
            server = self._servers[self._tries % len(self._servers)]
            self._tries += 1
            try:
                self._ask(server)
            except OSError:
                self.close()
                continue
            return True
        return False

    def wants_to_write(self) -> bool:
        """True while there is something of the question to be sent."""
        return bool(self._sending)

    def _ask(self, server: str) -> None:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        kind = socket.SOCK_STREAM if self._tcp else socket.SOCK_DGRAM
        self.sock = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._number = secrets.randbits(16)
        data = with_id(self._data, self._number)
        self._received = b""
        with suppress(BlockingIOError):
            self.sock.connect((server, PORT))
        if self._tcp:
            self._sending = _FOR_TCP.pack(len(data)) + data
        else:
            self.sock.send(data)

    def write(self) -> None:
        """Send on. Raises OSError."""
        assert self.sock is not None
        with suppress(BlockingIOError):
            self._sending = self._sending[self.sock.send(self._sending) :]

    def read(self) -> bytes | None:
        """Return the answer if it is there, else None. Raises OSError when the server has gone."""
        assert self.sock is not None
        try:
            data = self.sock.recv(_LARGEST if not self._tcp else 65_537 - len(self._received))
        except BlockingIOError:
            return None
        if not self._tcp:
            return self._checked(data)
        if not data:
            raise ConnectionResetError
        self._received += data
        if len(self._received) < 2:
            return None
        length = _FOR_TCP.unpack_from(self._received)[0]
        if len(self._received) < 2 + length:
            return None
        found = self._checked(self._received[2 : 2 + length])
        if found is None:
            raise ConnectionResetError
        return found

    def _checked(self, data: bytes) -> bytes | None:
        """Return it under the asker's number, if it answers our question."""
        try:
            told = parse_answer(data)
        except Malformed:
            return None
        asked = self.question
        if (told.id, told.name, told.kind, told.of_class) != (self._number, asked.name, asked.kind, asked.of_class):
            return None
        return with_id(data, asked.id)

    def close(self) -> None:
        """Let go of the socket."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None
