"""The short-lived process that makes a container, so that its supervisor stays small.

A fork of the supervisor does all the making: reads config.json, runs the OCI runtime, writes the trace. What it
loads and computes goes with it; the supervisor, which lives as long as the container, has touched little of the
memory that it shares with the spawner. Init is adopted by the supervisor, the nearest subreaper.

::

    maker → supervisor   {"pid": n, "group": …} with init's pidfd, and its terminal if it has one
                         {"error": …, "exit_code": n}
    maker → client       {"steps": […]}: what was done, if the client asked for it
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends.errors import StartFailed
from backends.kernel import linux
from backends.native import protocol
from backends.oci.request import Created
from backends.trace import Recorder, StepRecord

_LONGEST_TRACE = 1024**2
_ANSWER_S = 120.0
_STEPS_A_MESSAGE = 100


class Pipes:
    """The program's standard streams, where it has no terminal, and our ends of them."""

    def __init__(self, *, keep_stdin: bool) -> None:
        out, err = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        self.stdin_fd: int | None = None
        if keep_stdin:
            reading, self.stdin_fd = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self.stdin_fd, False)
        else:
            reading = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self.outputs = [("stdout", out[0]), ("stderr", err[0])]
        """(stream, descriptor) of what the program writes."""

        self.theirs = [reading, out[1], err[1]]

    @property
    def ours(self) -> list[int]:
        """The descriptors that the program must not have."""
        return [fd for fd in (self.outputs[0][1], self.outputs[1][1], self.stdin_fd) if fd is not None]

    def close_theirs(self) -> None:
        """Close the program's ends here."""
        for fd in self.theirs:
            os.close(fd)
        self.theirs = []

    def close_ours(self) -> None:
        """Close our ends."""
        for fd in self.ours:
            os.close(fd)
        self.outputs, self.stdin_fd = [], None


class Maker:
    """The supervisor's end of it."""

    def __init__(self, work: Callable[[Worker], None], *, keep_stdin: bool = False) -> None:
        """Fork it; it does the work and ends. Raises OSError."""
        self.pipes = Pipes(keep_stdin=keep_stdin)
        self._sync, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        with theirs:
            try:
                self.pid = os.fork()
            except OSError:
                self._sync.close()
                self.pipes.close_theirs()
                self.pipes.close_ours()
                raise
            if self.pid == 0:
                worker = Worker(theirs, self.pipes)
                try:
                    self._sync.close()
                    _settle_in(parent)
                    work(worker)
                except Exception as error:  # the end of a forked process
                    worker.fail(error)
                    traceback.print_exc()
                finally:
                    os._exit(0)
        self.pipes.close_theirs()

    def ask(self, message: dict[str, object], fds: Sequence[int] = ()) -> None:
        """Tell the maker something."""
        with suppress(protocol.Closed):  # then it has said why, which is heard next
            protocol.send(self._sync, message, fds)

    def answer(self) -> tuple[dict[str, object], list[int]]:
        """Return what it says next, with descriptors. Raises StartFailed as it says, or if it died."""
        self._sync.settimeout(_ANSWER_S)
        try:
            message, fds = protocol.receive(self._sync)
        except protocol.Closed:
            raise StartFailed("the process that makes it died", hint="start it again") from None
        except TimeoutError:
            raise StartFailed(f"it was not made within {_ANSWER_S:.0f} s") from None
        if "error" in message:
            raise protocol.error_in(message)
        return message, fds

    def dismiss(self) -> None:
        """Let it end without an order, and wait for that."""
        self._sync.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def close(self) -> None:
        """Let go of it when it has answered."""
        self._sync.close()
        with suppress(ChildProcessError):
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                return


class Worker:
    """The maker's own end."""

    def __init__(self, sync: socket.socket, pipes: Pipes) -> None:
        self._sync, self.pipes = sync, pipes
        self.records: list[StepRecord] = []
        self.recorder = Recorder("supervisor", self.keep)

    def keep(self, record: StepRecord) -> None:
        """Take a step's record; it is written when there is time."""
        self.records.append(record)

    def hear(self) -> tuple[dict[str, Any], list[int]]:
        """Return what the supervisor says, with descriptors. Raises protocol.Closed."""
        return protocol.receive(self._sync)

    def say(self, message: dict[str, object]) -> None:
        """Tell the supervisor something."""
        protocol.send(self._sync, message)

    def succeed(self, created: Created, group: str) -> None:
        """Hand over what was made."""
        fds = [created.pidfd] + ([created.terminal_fd] if created.terminal_fd is not None else [])
        protocol.send(self._sync, {"pid": created.pid, "group": group}, fds)

    def fail(self, error: Exception) -> None:
        """Say why there is nothing."""
        with suppress(protocol.Closed, OSError):
            self.say(protocol.error_message(error))

    def tell_steps(self, client: socket.socket | None) -> None:
        """Send the client the steps, some in a message; one that does not listen is left alone."""
        if client is None:
            return
        with suppress(protocol.Closed, OSError):
            for start in range(0, len(self.records), _STEPS_A_MESSAGE):
                some = self.records[start : start + _STEPS_A_MESSAGE]
                protocol.send(client, {"steps": [_plain(record) for record in some]})


class Trace:
    """A container's trace, locked while steps are made that are not in it yet: readers wait for them."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(BlockingIOError):
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, records: list[StepRecord]) -> None:
        """Add the steps and let readers see them. What a full disk does not take is lost."""
        with suppress(OSError):
            if os.fstat(self._fd).st_size > _LONGEST_TRACE:
                os.ftruncate(self._fd, 0)
            lines = (json.dumps(_plain(record), separators=(",", ":")) for record in records)
            os.write(self._fd, "".join(f"{line}\n" for line in lines).encode())
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # forks of ours may still have the descriptor
        os.close(self._fd)


def _plain(record: StepRecord) -> dict[str, object]:
    """Return a record as JSON types; dataclasses.asdict would copy all of it, and take three times as long."""
    return {name: getattr(record, name) for name in StepRecord.__slots__}


def _settle_in(supervisor: int) -> None:
    """Be nobody's signal handler and end with the supervisor, whose container would have no keeper."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(1)
