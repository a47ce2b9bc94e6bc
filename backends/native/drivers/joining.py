"""A further program in a container of an installed runtime, without making the supervisor wait."""

from __future__ import annotations

import json
import os
import secrets as random
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backends.errors import StartFailed
from backends.native.drivers import bundle, command
from backends.native.drivers.console import ConsoleSocket
from backends.oci import messages
from backends.oci.ending import end
from backends.oci.join import Joined, JoinRequest

if TYPE_CHECKING:
    from backends.native.drivers.runtime import Runtime

_TIMEOUT_S = 30.0


def begin(runtime: Runtime, request: JoinRequest) -> RuntimeJoining:
    """Fork the helper that calls the runtime and tells what came of it."""
    ours, theirs = messages.pair()
    with theirs:
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                for fd in request.own_fds:
                    os.close(fd)
                _help(runtime, request, theirs)
            finally:
                os._exit(0)
    return RuntimeJoining(ours, pid)


@dataclass(slots=True, eq=False)
class RuntimeJoining:
    """A program on its way into a container."""

    sync: socket.socket
    stage_pid: int
    """The helper."""

    pid: int = 0
    pidfd: int = -1
    terminal_fd: int | None = None
    _is_gone: bool = False

    def hear(self) -> bool:
        """Take one message; True when the program runs. Raises StartFailed, BlockingIOError, OSError."""
        try:
            message, fds = messages.receive(self.sync)
        except messages.Closed:
            if self.pid:
                return True
            raise StartFailed("the runtime died before it ran the program") from None
        if "failed" in message:
            raise StartFailed(message["failed"], exit_code=message["exit_code"], hint=message.get("hint", ""))
        self.pid = int(message["pid"])
        self.terminal_fd = fds[0] if fds else None
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:  # it has ended and been reaped already: a descriptor that stands for nothing
            self.pidfd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            self._is_gone = True
        return False

    def result(self) -> Joined:
        """Return the program that runs."""
        self.sync.close()
        self._reap()
        return Joined(self.pid, self.pidfd, self.terminal_fd)

    def undo(self) -> None:
        """End it."""
        self.sync.close()
        if self.stage_pid:
            with suppress(ProcessLookupError):
                os.kill(self.stage_pid, signal.SIGKILL)
            self._reap()
        if self.pidfd >= 0 and not self._is_gone:
            end(self.pid, self.pidfd)
        elif self.pidfd >= 0:
            os.close(self.pidfd)
        self.pidfd = -1
        if self.terminal_fd is not None:
            os.close(self.terminal_fd)
            self.terminal_fd = None

    def _reap(self) -> None:
        if self.stage_pid:
            with suppress(ChildProcessError):  # a supervisor that reaps all was faster
                os.waitpid(self.stage_pid, 0)
            self.stage_pid = 0


def _help(runtime: Runtime, request: JoinRequest, sync: socket.socket) -> None:
    signal.set_wakeup_fd(-1)
    folder = runtime.folder(request.id)
    name = f"exec-{random.token_hex(4)}"
    places = {kind: folder / f"{name}.{kind}" for kind in ("json", "pid", "log")}
    console = None
    try:
        account = bundle.account_in(f"/proc/{request.pid}/root", request.process, request.user)
        process = bundle.translated(request.process, account, request.size)
        places["json"].write_text(json.dumps(process))
        words = ["exec", "--detach", "--process", str(places["json"]), "--pid-file", str(places["pid"])]
        if process.get("terminal"):
            console = ConsoleSocket(folder, f"{name}.tty")
            words += ["--tty", "--console-socket", f"{name}.tty"]
        call = runtime.words(request.id, *words)
        call[call.index("--log") + 1] = str(places["log"])
        stdio = () if console is not None else request.stdio
        command.run(call, stdio=stdio, folder=folder, log=places["log"], timeout_s=_TIMEOUT_S)
        fds = [console.take()] if console is not None else []
        messages.send(sync, {"pid": int(places["pid"].read_text())}, fds)
    except Exception as error:  # the end of a forked process
        with suppress(messages.Closed, OSError):
            messages.send(sync, messages.failure(error))
    finally:
        if console is not None:
            console.close()
        for path in places.values():
            path.unlink(missing_ok=True)
