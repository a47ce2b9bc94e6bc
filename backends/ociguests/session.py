"""A program inside a container: `inn oci exec` as a child process, so that nothing of this one's threads is forked."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

from backends.container import ExecSpec
from backends.kernel import linux
from backends.oci.state import Container

_LAUNCH = (
    "import sys; sys.path[:] = [sys.argv.pop(1), *sys.path]; "
    "from backends.oci.cli.main import main; sys.exit(main(sys.argv[1:]))"
)
_HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class ExecSession:
    """One program."""

    def __init__(self, container: Container, spec: ExecSpec, stdio: tuple[int, int, int] | None) -> None:
        self.terminal_fd: int | None = None
        stdin, stdout, stderr = stdio or (0, 1, 2)
        slave = -1
        if spec.terminal:
            self.terminal_fd, slave = os.openpty()
            if spec.size is not None:
                linux.set_window_size(slave, *spec.size)
            stdin = stdout = stderr = slave
        try:
            self._child = subprocess.Popen(
                _command(container, spec), stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
            )
        finally:
            if slave >= 0:
                os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the program's terminal its size."""
        if self.terminal_fd is not None:
            linux.set_window_size(self.terminal_fd, rows, columns)
            with suppress(ProcessLookupError):
                self._child.send_signal(28)  # SIGWINCH: it leads a session of its own, so the kernel tells nobody

    def wait(self) -> int:
        """Block until it ends and return its exit code."""
        return self._child.wait()

    def close(self) -> None:
        """Let go; a program that still runs is sent SIGHUP."""
        if self._child.poll() is None:
            with suppress(ProcessLookupError):
                self._child.send_signal(1)
        if self.terminal_fd is not None:
            os.close(self.terminal_fd)
            self.terminal_fd = None


def _command(container: Container, spec: ExecSpec) -> list[str]:
    words = [sys.executable, "-I", "-c", _LAUNCH, _HERE, "--root", container.root, "exec"]
    words += ["--tty"] if spec.terminal else []
    words += ["--cwd", spec.cwd] if spec.cwd else []
    words += ["--user", spec.user] if spec.user else []
    words += ["--detach"] if spec.detached else []
    words += [f"--env={entry}" for entry in spec.env]
    return [*words, container.id, *spec.args]
