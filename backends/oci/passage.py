"""A program on its way into a live container, as the process sees it that asked for it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from backends.errors import StartFailed
from backends.oci import messages
from backends.oci.ending import end


@dataclass(slots=True)
class Joined:
    """A program that runs in a container; adopted by the nearest subreaper above the caller, or the caller itself."""

    pid: int
    pidfd: int
    """The caller closes it."""

    terminal_fd: int | None = None


class Passage:
    """What a stage, a child of ours, does and tells until the program runs."""

    def __init__(self, sync: socket.socket, stage_pid: int) -> None:
        self.sync = sync
        """Readable when hear() has something to do."""

        self.stage_pid = stage_pid
        """0 once it has ended; reaped by hear()."""

        self.pid = 0
        """The program's, once it is known."""

        self.pidfd = -1
        self.terminal_fd: int | None = None
        self.is_ready = False
        """Whether the end of what the stage says means that the program runs."""

    def hear(self) -> bool:
        """Take one message; True when the program runs. Raises StartFailed, BlockingIOError, OSError."""
        try:
            message, fds = messages.receive(self.sync)
        except messages.Closed:
            if self.is_ready:
                return True
            raise StartFailed("the process died before it became the program") from None
        messages.raise_failure(message)
        self.take(message, fds)
        return False

    def take(self, message: Mapping[str, Any], fds: Sequence[int]) -> None:
        """Do what a message asks for, or keep what it tells."""
        raise NotImplementedError

    def result(self) -> Joined:
        """Return the program that runs; descriptors are the caller's from then on."""
        self.sync.close()
        self.reap_stage()
        return Joined(self.pid, self.pidfd, self.terminal_fd)

    def undo(self) -> None:
        """End it, whatever it has become so far."""
        self.sync.close()
        if self.stage_pid:
            with suppress(ProcessLookupError):
                os.kill(self.stage_pid, signal.SIGKILL)
            self.reap_stage()
        if self.pidfd >= 0:
            self.end_program()
            self.pidfd = -1
        if self.terminal_fd is not None:
            os.close(self.terminal_fd)
            self.terminal_fd = None

    def end_program(self) -> None:
        """Kill it, and close its descriptor."""
        end(self.pid, self.pidfd)

    def reap_stage(self) -> None:
        """Wait for the stage's end."""
        if self.stage_pid:
            with suppress(ChildProcessError):  # a supervisor that reaps all was faster
                os.waitpid(self.stage_pid, 0)
            self.stage_pid = 0


def fork(own_fds: Sequence[int], work: Callable[[socket.socket], None]) -> tuple[socket.socket, int]:
    """Fork a stage that does the work and ends; return our end of its socket, and its pid. It gets none of own_fds."""
    ours, theirs = messages.pair()
    with theirs:
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                for fd in own_fds:
                    os.close(fd)
                work(theirs)
            finally:
                os._exit(0)
    return ours, pid
