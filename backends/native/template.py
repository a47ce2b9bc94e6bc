"""A process that does nothing but fork: supervisors are its copies.

A fork shares its parent's memory until either writes to it, and in Python nearly all that a process does writes:
every look at an object counts a reference. Of two supervisors that the busy spawner forks one after the other,
each would keep what it has rewritten in between for itself. The template only waits and forks, so what it has
loaded stays one and the same for all of them.

Its children are born as the spawner's (CLONE_PARENT), which waits for them as for its own.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from backends.errors import InnkeeperError
from backends.kernel import cloning, linux
from backends.native import protocol

Work = Callable[[Mapping[str, Any], Sequence[int]], int]
"""What a child does with the message and descriptors that it was forked for; returns its exit code."""


class Template:
    """The spawner's end of it."""

    def __init__(self, works: Mapping[str, Work]) -> None:
        """works are what its children can do, by name. Raises OSError."""
        self._works = works
        self._begin()

    def _begin(self) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            self._sock.close()
            _serve(theirs, self._works)
        theirs.close()

    def fork(self, work: str, message: Mapping[str, Any], fds: Sequence[int] = ()) -> int:
        """Fork a child that does the work and return its pid. Raises OSError."""
        try:
            return self._ask(work, message, fds)
        except protocol.Closed:  # somebody killed it
            self.close()
            self._begin()
        try:
            return self._ask(work, message, fds)
        except protocol.Closed:
            raise ProcessLookupError("the process that forks supervisors died") from None

    def _ask(self, work: str, message: Mapping[str, Any], fds: Sequence[int]) -> int:
        try:
            protocol.send(self._sock, {"work": work, "message": message}, fds)
        except InnkeeperError as error:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE)) from error
        answer, _ = protocol.receive(self._sock)
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        return int(answer["pid"])

    def close(self) -> None:
        """Let it end, and wait for that."""
        self._sock.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _serve(sock: socket.socket, works: Mapping[str, Work]) -> None:
    """Run in the template, until the spawner ends."""
    code = 1
    try:
        _settle_in(sock.fileno())
        while True:
            request, fds = protocol.receive(sock)
            try:
                pid = cloning.clone(cloning.CLONE_PARENT)
            except OSError as error:
                protocol.send(sock, {"errno": error.errno})
                pid = -1
            if pid == 0:
                sock.close()
                code = _child(works, request, fds)
                break
            for fd in fds:
                os.close(fd)
            if pid > 0:
                protocol.send(sock, {"pid": pid})
    except protocol.Closed:
        code = 0
    except Exception:  # the end of a forked process
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _settle_in(kept: int) -> None:
    """Hold nothing of the spawner's but its socket: a lock or a client of its must not live on in a supervisor."""
    linux.set_process_name("inn-template")
    os.environ.pop(protocol.READY, None)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _child(works: Mapping[str, Work], request: Mapping[str, Any], fds: Sequence[int]) -> int:
    try:
        return works[request["work"]](request["message"], fds)
    except Exception:  # the end of a forked process
        traceback.print_exc()
        return 1
