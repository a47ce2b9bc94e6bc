"""Running a program in a live container, beside its first one.

::

    joined = join(request)     # returns when the program runs

`join()` waits until the program runs; a supervisor that must not wait uses `begin()` and `Joining.hear()`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from backends.errors import StartFailed, os_error_text
from backends.kernel.account import Account
from backends.oci import joiner, messages, passage, process
from backends.oci.errors import NotRunning, OciError
from backends.oci.join_request import JoinRequest
from backends.oci.passage import Joined, Passage
from backends.oci.request import check_descriptors
from backends.oci.state import start_ticks
from backends.trace import Recorder, StepRecord

__all__ = ["JoinRequest", "Joined", "Joining", "begin", "join"]


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
    ours, pid = passage.fork(request.own_fds, lambda theirs: joiner.run(request, pidfd, theirs))
    return Joining(request, ours, pid, recorder)


class Joining(Passage):
    """A program on its way into a container of ours."""

    def __init__(
        self, request: JoinRequest, sync: socket.socket, stage_pid: int, recorder: Recorder | None = None
    ) -> None:
        super().__init__(sync, stage_pid)
        self._request, self._recorder = request, recorder

    def take(self, message: Mapping[str, Any], fds: Sequence[int]) -> None:
        """Keep the stage's steps, and see to what it asks for."""
        if "steps" in message:
            for raw in message["steps"] if self._recorder is not None else ():
                self._recorder.keep(StepRecord(**raw))  # type: ignore[union-attr]
        elif "pid" in message:
            self._greet(int(message["pid"]))
        elif "terminal" in message:
            self.terminal_fd = fds[0]
        elif "seccomp" in message:
            self._send_listener(fds[0])
        elif "created" in message:
            self.is_ready = True  # then execve closes its end

    def _greet(self, pid: int) -> None:
        self.pid = pid
        try:
            self.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return  # it has ended, and a subreaper was faster: before that it has said why, which is heard next
        finally:
            self.reap_stage()
        request, recorder = self._request, self._recorder or Recorder("runtime")
        recorder.run_all(process.parent_steps(request.config, request.process, pid))
        with suppress(messages.Closed):  # then it has said why, which is heard next
            messages.send(self.sync, {"go": True})

    def _send_listener(self, fd: int) -> None:
        from backends.oci import notify

        request = self._request
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
