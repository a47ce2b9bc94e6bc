"""The sockets that a container asks at: made in its network namespace, served outside.

::

    maker → resolver      {"id": …, "pid": …} with a UDP socket and a listening TCP one     (RUN/names)
                          {"id": …, "gone": true}: it is not to be
    anybody → resolver    {"look": true}: see to containers that have none
    anybody ⇄ resolver    {"op": "ping"}                                 {"ok": true, "pid": n}

They are made before the container's program is there, so its first question waits in the socket if the resolver is
busy. Nobody but what is in that network namespace reaches them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backends.kernel import linux
from backends.kernel.mounts import KernelStep
from backends.kernel.netlink import LoopbackUp
from backends.native import protocol

ADDRESS = "127.0.0.11"
PORT = 53
SOCKET = "names"
"""Name in the run folder."""

_WAITING_BYTES = 65_536
_WAITING_CONNECTIONS = 8
_PATIENCE_S = 1.0


def sockets_in(pid: int) -> list[socket.socket]:
    """Return a UDP socket and a listening TCP one in the network namespace of a process. Raises OSError.

    The calling thread is in that namespace for a moment.
    """
    ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    made: list[socket.socket] = []
    try:
        theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            linux.setns(theirs, linux.CLONE_NEWNET)
        finally:
            os.close(theirs)
        try:
            # While lo has no addresses the socket would be bound (IP_FREEBIND), but send from another address.
            LoopbackUp().run()
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                sock = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
                made.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WAITING_BYTES)
                sock.bind((ADDRESS, PORT))
            made[1].listen(_WAITING_CONNECTIONS)
        finally:
            linux.setns(ours, linux.CLONE_NEWNET)
    except BaseException:
        for sock in made:
            sock.close()
        raise
    finally:
        os.close(ours)
    return made


@dataclass(frozen=True, slots=True)
class OfferNames(KernelStep):
    """Let the container ask for names at 127.0.0.11."""

    container_id: str
    pid: int
    run_dir: str
    kind = "names"

    def describe(self) -> str:
        return f"sockets at {ADDRESS}:{PORT} in the container, where names of its networks are answered"

    def run(self) -> None:
        sockets = sockets_in(self.pid)
        try:
            # Without a resolver it goes on without names until there is one, which looks for such containers.
            _tell(Path(self.run_dir), {"id": self.container_id, "pid": self.pid}, [each.fileno() for each in sockets])
        finally:
            for each in sockets:
                each.close()

    def undo(self) -> None:
        """Let the resolver close them; it does so anyway when the container's process has gone."""
        _tell(Path(self.run_dir), {"id": self.container_id, "gone": True})


def ask_to_look(run_dir: Path) -> None:
    """Let the resolver see to containers that have no sockets yet."""
    _tell(run_dir, {"look": True})


def _tell(run_dir: Path, message: dict[str, object], fds: Sequence[int] = ()) -> None:
    with suppress(OSError, protocol.Closed), protocol.connect(run_dir / SOCKET, _PATIENCE_S) as sock:
        protocol.send(sock, message, fds)
