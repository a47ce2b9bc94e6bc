"""The resolver: one process a state folder, forked like a supervisor, that answers what containers ask at 127.0.0.11.

It holds no state. Sockets come from the makers of containers; when it is new, or told to look, it makes them for all
containers that live. The names are in the records on disk. It ends when it has had nobody to answer for a while, or
nobody and no spawner; the spawner starts it anew when it dies.
"""

from __future__ import annotations

import functools
import os
import socket
import time
from contextlib import suppress

from backends.errors import InnkeeperError
from backends.kernel import linux, procfs
from backends.kernel.cgroup import raise_file_limit
from backends.model import GuestState
from backends.native import protocol
from backends.native.options import names
from backends.native.resolver.answering import Answering, Reply
from backends.native.resolver.asker import MOST_CONNECTIONS, Asker
from backends.native.resolver.connection import Connection
from backends.native.resolver.directory import Directory
from backends.native.resolver.loop import READ, Loop
from backends.native.resolver.offer import sockets_in
from backends.native.resolver.upstream import HostServers
from backends.native.store import ContainerStore

NAME = "inn-names"
_LINGERS_S = 30.0
_AT_ONCE = 16
"""Questions of one container that are answered before others have their turn."""

_REST_S = 0.05
_LARGEST = 4096
_QUEUE = 1024
_SILENT_S = 5.0
_LOOK_AGAIN_S = 1.0


class Resolver:
    """Serves until nobody is there."""

    def __init__(self, store: ContainerStore, listener: socket.socket, spawner_pid: int) -> None:
        """listener: where makers bring sockets."""
        self._store, self._listener = store, listener
        self._loop = Loop()
        self._directory = Directory(store)
        self._answering = Answering(self._loop, self._directory, HostServers())
        self._askers: dict[str, Asker] = {}
        self._alone_since_s = time.monotonic()
        self._has_spawner = True
        self._watch_spawner(spawner_pid)

    def serve(self) -> None:
        """Answer until it is over."""
        raise_file_limit()
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), READ, self._accept)
        self._listener.listen(_QUEUE)  # so that who connects is told our pid (SO_PEERCRED)
        self._look()
        self._loop.after(_LOOK_AGAIN_S, self._look)  # for one that was just being started when the last resolver died
        while not self._is_over():
            self._loop.turn()

    def _is_over(self) -> bool:
        if self._askers:
            return False
        if not self._has_spawner:
            return True
        left_s = self._alone_since_s + _LINGERS_S - time.monotonic()
        if left_s <= 0:
            return True
        self._loop.after(left_s, lambda: None)
        return False

    def _watch_spawner(self, pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            self._has_spawner = False
            return

        def gone() -> None:
            self._has_spawner = False
            self._loop.ignore(pidfd)
            os.close(pidfd)

        self._loop.watch(pidfd, READ, gone)

    # ------------------------------------------------------------------ who comes and goes

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return
        if not protocol.peer_is_trusted(peer):
            peer.close()
            return
        peer.setblocking(False)

        def let_go() -> None:
            timer.cancel()
            self._loop.ignore(peer.fileno())
            peer.close()

        def hear() -> None:
            try:
                message, fds = protocol.receive(peer)
            except BlockingIOError:
                return
            except (protocol.Closed, OSError, ValueError):
                let_go()
                return
            if message.get("op") == "ping":
                with suppress(protocol.Closed, OSError):
                    protocol.send(peer, {"ok": True, "pid": os.getpid()})
            let_go()
            self._take(message, [socket.socket(fileno=fd) for fd in fds])

        timer = self._loop.after(_SILENT_S, let_go)
        self._loop.watch(peer.fileno(), READ, hear)

    def _take(self, message: dict[str, object], sockets: list[socket.socket]) -> None:
        if message.get("look"):
            self._look()
        elif message.get("gone"):
            if str(message.get("id")) in self._askers:
                self._remove(self._askers[str(message["id"])])
        elif len(sockets) == 2 and isinstance(message.get("pid"), int):
            self._add(str(message.get("id")), int(str(message["pid"])), sockets)
            return
        for sock in sockets:
            sock.close()

    def _look(self) -> None:
        """Make sockets for containers that live and have none."""
        for container_id in self._store.ids():
            if container_id in self._askers:
                continue
            with suppress(InnkeeperError, OSError):
                status = self._store.status(container_id)
                if not GuestState(status.state).is_live or not status.pid or status.pid_start is None:
                    continue
                if not procfs.is_same_process(status.pid, status.pid_start):
                    continue
                record = self._store.record(container_id)
                if names.asks_resolver(record.network, record.publish, record.dns):
                    self._add(container_id, status.pid, sockets_in(status.pid))

    def _add(self, container_id: str, pid: int, sockets: list[socket.socket]) -> None:
        if container_id in self._askers:
            self._remove(self._askers[container_id])
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:  # it has ended already
            for sock in sockets:
                sock.close()
            return
        asker = Asker(container_id, pid, sockets[0], sockets[1], pidfd)
        for sock in sockets:
            sock.setblocking(False)
        self._askers[container_id] = asker
        self._directory.add(container_id)
        self._loop.watch(pidfd, READ, lambda: self._ended(asker))
        self._listen(asker)

    def _ended(self, asker: Asker) -> None:
        """Its process has ended; of a restored one it was only who held its network till then."""
        self._remove(asker)
        self._loop.after(_LOOK_AGAIN_S, self._look)

    def _remove(self, asker: Asker) -> None:
        for fd in (asker.udp.fileno(), asker.tcp.fileno(), asker.pidfd):
            self._loop.ignore(fd)
        for connection in list(asker.connections):
            assert isinstance(connection, Connection)
            connection.close()
        self._answering.drop(asker)
        asker.close()
        if self._askers.get(asker.id) is asker:
            del self._askers[asker.id]
            self._directory.remove(asker.id)
        self._alone_since_s = time.monotonic()

    # ------------------------------------------------------------------ what is asked

    def _listen(self, asker: Asker) -> None:
        if asker.pidfd < 0:
            return  # gone meanwhile
        self._loop.watch(asker.udp.fileno(), READ, lambda: self._hear(asker))
        self._loop.watch(asker.tcp.fileno(), READ, lambda: self._connected(asker))

    def _rest(self, asker: Asker) -> None:
        """It asks too much: let it wait, and the kernel drop what does not fit."""
        self._loop.ignore(asker.udp.fileno())
        self._loop.ignore(asker.tcp.fileno())
        self._loop.after(_REST_S, lambda: self._listen(asker))

    def _hear(self, asker: Asker) -> None:
        for _ in range(_AT_ONCE):
            if not asker.may_ask():
                self._rest(asker)
                return
            try:
                data, peer = asker.udp.recvfrom(_LARGEST)
            except OSError:
                return
            self._answering.answer(asker, data, functools.partial(_send, asker, peer), tcp=False)

    def _connected(self, asker: Asker) -> None:
        try:
            sock, _ = asker.tcp.accept()
        except BlockingIOError:
            return
        except OSError:  # out of descriptors
            self._rest(asker)
            return
        if len(asker.connections) >= MOST_CONNECTIONS or not asker.may_ask():
            sock.close()
            return
        sock.setblocking(False)
        Connection(self._loop, asker, sock, self._answer_by_tcp)

    def _answer_by_tcp(self, asker: Asker, data: bytes, reply: Reply) -> bool:
        return self._answering.answer(asker, data, reply, tcp=True)


def _send(asker: Asker, peer: tuple[str, int], answer: bytes) -> None:
    if asker.pidfd >= 0:
        with suppress(OSError):
            asker.udp.sendto(answer, peer)


def serve(store: ContainerStore, listener: socket.socket, spawner_pid: int) -> int:
    """Run in a process that was forked for it."""
    linux.set_process_name(NAME)
    Resolver(store, listener, spawner_pid).serve()
    return 0
