"""One start of one container: its descriptors, the OCI runtime's work, and how it went."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from backends.errors import InnkeeperError, StartFailed
from backends.native import plan
from backends.oci.create import create, started
from backends.oci.request import Created
from backends.trace import Recorder, StepRecord

if TYPE_CHECKING:
    from backends.native.supervisor import Supervisor


def exit_code_of(wait_status: int) -> int:
    """Return docker's exit code of a waitpid status: its own, or 128+n for signal n."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


class Launch:
    """A start, and what it has made so far."""

    def __init__(self, owner: Supervisor, recorder: Recorder, keep: Callable[[StepRecord], None]) -> None:
        self._owner, self._recorder = owner, recorder
        self._created: Created | None = None
        self.stdin_fd: int | None = None
        self.outputs: list[tuple[str, int]] = []
        """(stream, descriptor) of what the program writes."""

    @property
    def init_pid(self) -> int:
        """The container's first process."""
        return self._created.pid if self._created is not None else 0

    @property
    def init_pidfd(self) -> int:
        """Refers to it as long as it is kept open."""
        return self._created.pidfd if self._created is not None else -1

    @property
    def terminal_fd(self) -> int | None:
        """Master of its terminal, if it has one."""
        return self._created.terminal_fd if self._created is not None else None

    def run(self) -> None:
        """Start the container. Raises StartFailed; undo() is then the caller's."""
        try:
            self._run()
        except StartFailed:
            raise
        except InnkeeperError as error:
            raise StartFailed(error.message, hint=error.hint) from error
        except OSError as error:
            raise StartFailed(error.strerror or str(error)) from error

    def _run(self) -> None:
        owner = self._owner
        process = owner.config["process"]
        stdio, ours = self._pipes(bool(process.get("terminal")), owner.record.stdin)
        try:
            request = plan.request(
                owner.record,
                owner.config,
                owner.store.folder(owner.id),
                owner.host,
                stdio=stdio,
                own_fds=ours,
                run_dir=owner.store.run_dir,
                secrets_fd=owner.secrets.descriptor(owner.record.secret_files),
            )
            self._created = create(request, self._recorder)
        finally:
            for fd in stdio:
                os.close(fd)
        if self._created.terminal_fd is not None:
            os.set_blocking(self._created.terminal_fd, False)
            self.outputs = [("stdout", self._created.terminal_fd)]
        started(self._created, is_open=True)

    def undo(self) -> None:
        """Take back what was done; what cannot be undone is left to `clean`."""
        created, self._created = self._created, None
        if created is not None:
            is_taken_over = self._owner.init_pidfd == created.pidfd
            if is_taken_over:  # its descriptors are the owner's to close
                created.pidfd, created.terminal_fd = os.dup(created.pidfd), None
            created.undo()
            if is_taken_over:
                return
        for fd in (self.stdin_fd, *(fd for _, fd in self.outputs)):
            if fd is not None:
                with suppress(OSError):
                    os.close(fd)
        self.stdin_fd, self.outputs = None, []

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
