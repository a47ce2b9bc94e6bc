"""Running a program in a live container, beside its first one.

::

    joined = join(request)     # returns when the program runs

`join()` waits until the program runs; a supervisor that must not wait uses `begin()` and `Joining.hear()`.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass

from backends.errors import StartFailed, os_error_text
from backends.kernel.account import Account
from backends.oci import joiner, messages, process
from backends.oci.ending import end
from backends.oci.errors import NotRunning, OciError
from backends.oci.join_request import JoinRequest
from backends.oci.request import check_descriptors
from backends.oci.state import start_ticks
from backends.trace import Recorder, StepRecord

__all__ = ["JoinRequest", "Joined", "Joining", "begin", "join"]


@dataclass(slots=True)
class Joined:
    """A program that runs in a container; adopted by the nearest subreaper above the caller, or the caller itself."""

    pid: int
    pidfd: int
    """The caller closes it."""

    terminal_fd: int | None = None


def join(request: JoinRequest, recorder: Recorder | None = None) -> Joined:
    """Run the program and wait for its execve. Raises NotRunning, OciError, StartFailed with nothing left of it."""
    joining_ = begin(request, recorder)
    joining_.sync.settimeout(request.timeout_s)
    try:
        while not joining_.hear():
            pass
        return joining_.result()
    except BaseException as error:
        joining_.undo()
        if isinstance(error, TimeoutError):
            raise StartFailed(f"the program did not start within {request.timeout_s:.0f} s") from error
        if isinstance(error, OSError):
            raise StartFailed(os_error_text(error)) from error
        raise


def begin(request: JoinRequest, recorder: Recorder | None = None) -> Joining:
    """Fork the stage. Raises NotRunning, OciError."""
    check_descriptors(request.first_fd - 3)
    pidfd = request.pidfd if request.pidfd >= 0 else _open_process(request)
    try:
        if request.group is not None and not request.ignore_paused and request.group.is_frozen():
            raise OciError("cannot exec in a paused container (use --ignore-paused to override)")
        # Compiled here, where files may be read; the child then finds it ready.
        process.privilege_steps(request.config, request.process, Account(0, 0, (), "/"))
        return _fork(request, pidfd, recorder)
    finally:
        if pidfd != request.pidfd:
            os.close(pidfd)


def _open_process(request: JoinRequest) -> int:
    stopped = NotRunning("cannot exec in a stopped container")
    try:
        pidfd = os.pidfd_open(request.pid)
    except ProcessLookupError:
        raise stopped from None
    # Looked at after the descriptor was opened: it then is of the process that the number meant.
    if request.started_ticks is not None and start_ticks(request.pid) != request.started_ticks:
        os.close(pidfd)
        raise stopped
    return pidfd


def _fork(request: JoinRequest, pidfd: int, recorder: Recorder | None) -> Joining:
    ours, theirs = messages.pair()
    with theirs:
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                for fd in request.own_fds:
                    os.close(fd)
                joiner.run(request, pidfd, theirs)
            finally:
                os._exit(0)
    return Joining(request, ours, pid, recorder)


@dataclass(slots=True, eq=False)
class Joining:
    """A program on its way into a container."""

    request: JoinRequest
    sync: socket.socket
    """Readable when hear() has something to do."""

    stage_pid: int
    """0 once it has ended; reaped by hear()."""

    recorder: Recorder | None = None
    pid: int = 0
    pidfd: int = -1
    terminal_fd: int | None = None
    is_ready: bool = False

    def hear(self) -> bool:
        """Take one message; True when the program runs. Raises StartFailed, BlockingIOError, OSError."""
        try:
            message, fds = messages.receive(self.sync)
        except messages.Closed:
            if self.is_ready:
                return True  # execve closed its end
            raise StartFailed("the process died before it became the program") from None
        if "failed" in message:
            raise StartFailed(message["failed"], exit_code=message["exit_code"], hint=message.get("hint", ""))
        if "steps" in message:
            for raw in message["steps"] if self.recorder is not None else ():
                self.recorder.keep(StepRecord(**raw))  # type: ignore[union-attr]
        elif "pid" in message:
            self._greet(int(message["pid"]))
        elif "terminal" in message:
            self.terminal_fd = fds[0]
        elif "seccomp" in message:
            self._send_listener(fds[0])
        elif "created" in message:
            self.is_ready = True
        return False

    def _greet(self, pid: int) -> None:
        self.pid = pid
        try:
            self.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return  # it has ended, and a subreaper was faster: before that it has said why, which is heard next
        finally:
            self._reap_stage()
        request, recorder = self.request, self.recorder or Recorder("runtime")
        recorder.run_all(process.parent_steps(request.config, request.process, pid))
        with suppress(messages.Closed):  # then it has said why, which is heard next
            messages.send(self.sync, {"go": True})

    def _reap_stage(self) -> None:
        if self.stage_pid:
            with suppress(ChildProcessError):  # a supervisor that reaps all was faster
                os.waitpid(self.stage_pid, 0)
            self.stage_pid = 0

    def _send_listener(self, fd: int) -> None:
        from backends.oci import notify

        request = self.request
        try:
            state = request.state or {
                "ociVersion": request.config["ociVersion"],
                "id": request.id,
                "status": "running",
                "pid": request.pid,
                "bundle": "",
            }
            notify.send(request.config["linux"]["seccomp"], state, self.pid, fd)
        finally:
            os.close(fd)

    def result(self) -> Joined:
        """Return the program that runs; descriptors are the caller's from then on."""
        self.sync.close()
        self._reap_stage()
        return Joined(self.pid, self.pidfd, self.terminal_fd)

    def undo(self) -> None:
        """End it, whatever it has become so far."""
        self.sync.close()
        if self.stage_pid:
            with suppress(ProcessLookupError):
                os.kill(self.stage_pid, signal.SIGKILL)
            self._reap_stage()
        if self.pidfd >= 0:
            end(self.pid, self.pidfd)
            self.pidfd = -1
        if self.terminal_fd is not None:
            os.close(self.terminal_fd)
            self.terminal_fd = None
