"""The relay: a process that passes on between ::1 and one container, while there is something to pass on.

It connects to the container's address on the first network that has a way out, over IPv6 if both the network and the
program listen to it, else over IPv4; the container sees the host's address on that network, as it does of what
comes to 127.0.0.1. The address is looked up for each connection: the container may be on other networks by now.
"""

from __future__ import annotations

import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from backends.errors import InnkeeperError
from backends.kernel import linux
from backends.kernel.cgroup import raise_file_limit
from backends.native import nat
from backends.native.options.ports import Port
from backends.native.relay.conversation import Conversation
from backends.native.relay.stream import Stream
from backends.native.resolver.loop import READ, Loop
from backends.native.store import ContainerStore

NAME = "inn-relay"
LAST_S = 0.5
"""How long what a container had sent before it ended is passed on."""

_LINGERS_S = 10.0
_MOST = 1000
"""Connections, and senders of datagrams, at a time; others wait."""

_LARGEST = 65_535
_REST_S = 1.0


class _Relay:
    def __init__(
        self,
        store: ContainerStore,
        container_id: str,
        listeners: Sequence[tuple[Port, socket.socket]],
        leash: socket.socket,
    ) -> None:
        self._store, self._id = store, container_id
        self._listeners, self._leash = listeners, leash
        self._loop = Loop()
        self._streams: set[Stream] = set()
        self._conversations: dict[tuple[Port, object], Conversation] = {}
        self._idle_since_s = time.monotonic()
        self._ends_s: float | None = None
        """When it ends at the latest, because the container has ended."""

    def serve(self) -> None:
        """Pass on until there is nothing more to do."""
        self._loop.watch(self._leash.fileno(), READ, self._let_go)
        self._listen()
        while not self._is_over():
            self._loop.turn()

    def _is_over(self) -> bool:
        now_s = time.monotonic()
        if self._ends_s is not None:
            return not self._streams or now_s >= self._ends_s
        if self._streams or self._conversations:
            self._idle_since_s = now_s
            return False
        if now_s >= self._idle_since_s + _LINGERS_S:
            return True
        self._loop.after(self._idle_since_s + _LINGERS_S - now_s, lambda: None)
        return False

    def _let_go(self) -> None:
        """The container has ended, or its supervisor."""
        self._loop.ignore(self._leash.fileno())
        for _, sock in self._listeners:
            self._loop.ignore(sock.fileno())
            sock.close()
        self._listeners = ()
        self._ends_s = time.monotonic() + LAST_S
        self._loop.after(LAST_S, lambda: None)

    def _listen(self) -> None:
        for port, sock in self._listeners:
            self._loop.watch(sock.fileno(), READ, self._hearing(port, sock))

    def _hearing(self, port: Port, sock: socket.socket) -> Callable[[], None]:
        hear = self._accept if port.protocol == "tcp" else self._receive
        return lambda: hear(port, sock)

    def _addresses(self) -> list[str]:
        """Return where the container is, IPv6 first; empty: on no network."""
        try:
            to = nat.published(self._store.record(self._id))
        except (InnkeeperError, OSError):  # removed, or just being written
            return []
        return [address for address in (to.address6, to.address) if address]

    # ------------------------------------------------------------------ TCP

    def _accept(self, port: Port, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        client.setblocking(False)
        self._streams.add(Stream(self._loop, client, self._addresses(), port.guest, self._ended))
        if len(self._streams) >= _MOST:
            self._loop.ignore(listener.fileno())

    def _ended(self, stream: Stream) -> None:
        was_full = len(self._streams) >= _MOST
        self._streams.discard(stream)
        if was_full:
            self._listen()

    # ------------------------------------------------------------------ UDP

    def _receive(self, port: Port, listener: socket.socket) -> None:
        try:
            data, peer = listener.recvfrom(_LARGEST)
        except OSError:
            return
        key = (port, peer)
        found = self._conversations.get(key)
        if found is None:
            if len(self._conversations) >= _MOST:
                return  # dropped, as datagrams may be

            def reply(answer: bytes) -> None:
                listener.sendto(answer, peer)

            def ended() -> None:
                self._conversations.pop(key, None)

            found = Conversation(self._loop, self._addresses, port.guest, reply, ended)
            self._conversations[key] = found
        found.send(data)


def serve(
    store: ContainerStore, container_id: str, listeners: Sequence[tuple[Port, socket.socket]], leash: socket.socket
) -> None:
    """Run in a process that was forked for it. leash: its other end is closed when the container ends."""
    linux.set_process_name(NAME)
    raise_file_limit()
    try:
        _Relay(store, container_id, listeners, leash).serve()
    except Exception:  # the end of a forked process
        traceback.print_exc()
        sys.stderr.flush()
        time.sleep(_REST_S)  # the next one is forked at once, if somebody waits
