"""The supervisor's part of the relay: listens at ::1, and forks the process that passes on when somebody comes.

A container whose ports at ::1 nobody uses costs a socket for each of them and no process. The relay ends when it has
had nothing to do for a while; whoever comes then waits in the socket until the supervisor has forked the next one.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from backends.errors import StartFailed
from backends.kernel import linux
from backends.kernel.descriptors import keep_only
from backends.native.options.ports import LOOPBACK6, MOST_RELAYED, Port, parse_ports
from backends.native.relay import server

if TYPE_CHECKING:
    from backends.native.supervisor import Supervisor

_WAITING = 128
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_GRACE_S = server.LAST_S + 0.5


class Relay:
    """The ports of one container at ::1."""

    def __init__(self, owner: Supervisor) -> None:
        self._owner = owner
        self._listeners: list[tuple[Port, socket.socket]] = []
        self._pid = 0
        self._leash: socket.socket | None = None
        """Closed when the relay is to end."""

    def begin(self) -> None:
        """The program runs: listen. Raises StartFailed for a port at ::1 alone that cannot be had."""
        ports = [port for port in parse_ports(self._owner.record.publish) if port.is_relayed]
        ports.sort(key=lambda port: port.address != LOOPBACK6)
        for port in ports[:MOST_RELAYED]:
            try:
                self._listeners.append((port, _listener(port)))
            except OSError as error:
                if port.address == LOOPBACK6:
                    what = f"port {port.host}/{port.protocol} at {LOOPBACK6} of the host"
                    raise StartFailed(f"{what} cannot be had: {error.strerror}") from error
                # A host without IPv6 has no such address, and nobody there asks for it.
        self._watch()

    def end(self) -> None:
        """The program has ended: listen no more, and pass on what it had still sent."""
        listeners, self._listeners = self._listeners, []
        for _, sock in listeners:
            if not self._pid:
                self._owner.selector.unregister(sock)
            sock.close()
        if self._leash is not None:
            self._leash.close()
            self._leash = None
        if self._pid:
            _see_off(self._pid)
            self._pid = 0

    def reaped(self, pid: int) -> bool:
        """A child has ended; says whether it was the relay."""
        if pid != self._pid:
            return False
        self._pid = 0
        if self._leash is not None:
            self._leash.close()
            self._leash = None
        self._watch()
        return True

    def _watch(self) -> None:
        for _, sock in self._listeners:
            self._owner.selector.register(sock, selectors.EVENT_READ, self._fork)

    def _fork(self) -> None:
        """Somebody comes to a port."""
        if self._pid:
            return  # and to another one at the same time
        ours, theirs = socket.socketpair()
        supervisor = os.getpid()
        with theirs:
            try:
                self._pid = os.fork()
            except OSError:  # too many processes: who came is turned away, or this would go round and round
                ours.close()
                self._turn_away()
                return
            if self._pid == 0:
                self._become_relay(theirs, supervisor)
        self._leash = ours
        for _, sock in self._listeners:
            self._owner.selector.unregister(sock)

    def _become_relay(self, leash: socket.socket, supervisor: int) -> None:
        """Run in the fork; does not return. It holds nothing of the supervisor's but the sockets."""
        try:
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            keep_only([2, leash.fileno(), *(sock.fileno() for _, sock in self._listeners)])
            if os.getppid() == supervisor:
                server.serve(self._owner.store, self._owner.id, self._listeners, leash)
        finally:
            os._exit(0)

    def _turn_away(self) -> None:
        for port, sock in self._listeners:
            with suppress(OSError):
                if port.protocol == "tcp":
                    sock.accept()[0].close()
                else:
                    sock.recv(1)


def _listener(port: Port) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, _KINDS[port.protocol] | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if port.protocol == "tcp":
            # Connections of an earlier run that have just ended do not hold the port (TIME_WAIT).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((LOOPBACK6, port.host))
        if port.protocol == "tcp":
            sock.listen(_WAITING)
    except BaseException:
        sock.close()
        raise
    return sock


def _see_off(pid: int) -> None:
    """Wait until the relay has ended, and kill it if that takes long: its port is free afterwards."""
    with suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            with selectors.DefaultSelector() as waiting:
                waiting.register(pidfd, selectors.EVENT_READ)
                if not waiting.select(_GRACE_S):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
