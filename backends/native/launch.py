"""One start of one container: fork the stage, adopt init, let it go, and hear how it went."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from backends.errors import InnkeeperError, StartFailed
from backends.native import init, plan, protocol
from backends.native.network import bridge_lock
from backends.native.sweep import oom_kills_of
from backends.trace import Recorder, Step, StepRecord

if TYPE_CHECKING:
    from backends.native.supervisor import Supervisor

_START_TIMEOUT_S = 60.0


def exit_code_of(wait_status: int) -> int:
    """Return docker's exit code of a waitpid status: its own, or 128+n for signal n."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


class Launch:
    """What a start has made so far, so that a failure can take it back."""

    def __init__(self, owner: Supervisor, recorder: Recorder, keep: Callable[[StepRecord], None]) -> None:
        self._owner, self._recorder, self._keep = owner, recorder, keep
        self._done: list[Step] = []
        self._failed_step = ""
        self._stage_pid = 0
        self._is_ready = False
        self.init_pid = 0
        self.init_pidfd = -1
        self.stdin_fd: int | None = None
        self.terminal_fd: int | None = None
        self.outputs: list[tuple[str, int]] = []
        """(stream, descriptor) of what the program writes."""

    def run(self) -> None:
        """Start the container. Raises StartFailed; undo() is then the caller's."""
        owner = self._owner
        try:
            folder = owner.store.folder(owner.id)
            made = plan.build(owner.record, owner.config, folder, owner.host)
            self._run(made.supervisor)
            sync, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with sync, theirs:
                sync.settimeout(_START_TIMEOUT_S)
                self._fork(made, sync, theirs)
                theirs.close()
                self._hear(sync)
                made = plan.build(owner.record, owner.config, folder, owner.host, self.init_pid)
                with bridge_lock(owner.store.run_dir):
                    self._run(made.supervisor_joined)
                protocol.send(sync, {"go": True})
                self._hear(sync)
        except StartFailed:
            raise
        except InnkeeperError as error:
            raise StartFailed(error.message, hint=error.hint) from error
        except TimeoutError as error:
            raise StartFailed(f"it did not come up within {_START_TIMEOUT_S:.0f} s") from error
        except (OSError, protocol.Closed) as error:
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "its init died"
            raise StartFailed(f"{self._last_step()}{text}") from error

    def undo(self) -> None:
        """Take back what was done, last first; what cannot be undone is left to `clean`, descriptors to our exit."""
        for pid in (self._stage_pid, self.init_pid):
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)
        for step in reversed(self._done):
            with suppress(OSError, InnkeeperError):
                step.undo()
        with suppress(OSError, InnkeeperError):
            self._owner.group.remove()

    def _run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._recorder.run(step)
            self._done.append(step)

    def _fork(self, made: plan.Plan, sync: socket.socket, theirs: socket.socket) -> None:
        owner = self._owner
        process = owner.config["process"]
        stdio, ours = self._pipes(bool(process.get("terminal")), owner.record.stdin)
        size = (owner.record.size[0], owner.record.size[1]) if owner.record.size else None
        pid = os.fork()
        if pid == 0:
            try:
                sync.close()
                for fd in ours:
                    os.close(fd)
                init.stage(
                    made,
                    theirs,
                    lambda: init.run(made, owner.config, owner.record.user, theirs, stdio, size),
                )
            finally:
                os._exit(0)
        for fd in stdio:
            os.close(fd)
        self._stage_pid = pid

    def _pipes(self, terminal: bool, keep_stdin: bool) -> tuple[list[int], list[int]]:
        """Return the program's descriptors 0, 1, 2, and our ends."""
        if terminal:
            return [], []
        out, err = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        self.outputs = [("stdout", out[0]), ("stderr", err[0])]
        if not keep_stdin:
            return [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), out[1], err[1]], [out[0], err[0]]
        reading, self.stdin_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.stdin_fd, False)
        return [reading, out[1], err[1]], [out[0], err[0], self.stdin_fd]

    def _hear(self, sync: socket.socket) -> None:
        """Take messages of the stage and init until the pid is known, then until execve closes their end."""
        while True:
            try:
                message, fds = protocol.receive(sync)
            except protocol.Closed:
                if self._is_ready:
                    return  # execve closed init's end
                raise self._death() from None
            if "steps" in message:
                for raw in message["steps"]:
                    record = StepRecord(**raw)
                    self._failed_step = record.text if record.error else ""
                    self._keep(record)
            elif "terminal" in message:
                self.terminal_fd = fds[0]
                os.set_blocking(fds[0], False)
                self.outputs = [("stdout", fds[0])]
            elif "failed" in message:
                raise StartFailed(self._last_step() + message["failed"], exit_code=message["exit_code"])
            elif "ready" in message:
                self._is_ready = True
            elif "pid" in message:
                self.init_pid = int(message["pid"])
                self.init_pidfd = os.pidfd_open(self.init_pid)
                os.waitpid(self._stage_pid, 0)
                self._stage_pid = 0
                return

    def _death(self) -> StartFailed:
        """Init's end of the socket closed before it could say why."""
        if oom_kills_of(self._owner.group):
            return StartFailed("its memory limit is too low to start it", hint="give it more: --memory")
        return StartFailed(f"{self._last_step()}its init died before it ran the program")

    def _last_step(self) -> str:
        return f"cannot {self._failed_step}: " if self._failed_step else ""
