"""The spawner's part of the resolver: forks it when it is first needed, and anew when it has died."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from backends.native import protocol
from backends.native.resolver.offer import SOCKET

_AGAIN_S = 1.0
"""One that dies as soon as it is there is not forked anew at once."""

_END_S = 1.0

Watch = Callable[[int, Callable[[], None]], None]


class ResolverKeeper:
    """Sees to it that there is one while it is needed."""

    def __init__(self, run_dir: Path, fork: Callable[[int], int], is_needed: Callable[[], bool]) -> None:
        """fork(fd) forks a resolver that listens on a socket, and returns its pid."""
        self._path, self._fork, self._is_needed = run_dir / SOCKET, fork, is_needed
        self._listener: socket.socket | None = None
        self._pid = 0
        self._foreign = -1
        """A pidfd of one that an earlier spawner forked; -1: there is none."""

        self._began_s = float("-inf")
        self._due_s: float | None = None

    def adopt(self, watch: Watch, ignore: Callable[[int], None]) -> None:
        """Find one that an earlier spawner forked; else begin, if it is needed."""
        try:
            with protocol.connect(self._path, _AGAIN_S) as sock:
                pidfd = os.pidfd_open(protocol.peer_pid(sock))
        except OSError:
            self.see_to_it_if_needed()
            return

        def gone() -> None:
            ignore(pidfd)
            os.close(pidfd)
            self._foreign = -1
            self.see_to_it_if_needed()

        self._foreign = pidfd
        watch(pidfd, gone)

    def see_to_it_if_needed(self) -> None:
        """Begin if there are containers for it."""
        if self._is_needed():
            self.see_to_it()

    def see_to_it(self) -> None:
        """Begin unless it is there."""
        if self._pid or self._foreign >= 0:
            return
        now_s = time.monotonic()
        if now_s - self._began_s < _AGAIN_S:
            self._due_s = self._began_s + _AGAIN_S
            return
        self._due_s, self._began_s = None, now_s
        with suppress(OSError):  # too many processes: the next start tries again
            if self._listener is None:
                self._listener = protocol.listen(self._path)
            self._pid = self._fork(self._listener.fileno())

    def wait_s(self, most_s: float) -> float:
        """Return how long the spawner may wait for other things."""
        return most_s if self._due_s is None else min(most_s, max(0.0, self._due_s - time.monotonic()))

    def do_what_is_due(self) -> None:
        """Begin anew, if that was put off until now."""
        if self._due_s is not None and time.monotonic() >= self._due_s:
            self._due_s = None
            self.see_to_it_if_needed()

    def reaped(self, pid: int) -> bool:
        """A child has ended; says whether it was the resolver."""
        if pid != self._pid:
            return False
        self._pid = 0
        self.see_to_it_if_needed()
        return True

    def end(self, *, is_needed: bool) -> None:
        """The spawner ends: so does the resolver, unless it is needed without us."""
        if self._listener is None:
            return
        if not is_needed:
            self._path.unlink(missing_ok=True)
            self._kill()
        self._listener.close()

    def _kill(self) -> None:
        if not self._pid:
            return
        deadline = time.monotonic() + _END_S
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)  # it holds nothing that could be half done
            while not os.waitpid(self._pid, os.WNOHANG)[0] and time.monotonic() < deadline:
                time.sleep(0.002)
