"""Open lines to what runs in a guest: one for a program beside its first, one for the first itself."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class ExecSession(Protocol):
    """A program that runs in a guest beside its first one."""

    terminal_fd: int | None
    """Master side of its pseudo-terminal, owned by the session; None if it has none."""

    def resize(self, rows: int, columns: int) -> None:
        """Tell the program's terminal its size."""
        ...

    def wait(self) -> int:
        """Block until it ends and return its exit code."""
        ...

    def close(self) -> None:
        """Let go; a program that still runs is sent SIGHUP."""
        ...


@runtime_checkable
class Detachable(Protocol):
    """A session whose program can be left to itself."""

    def detach(self) -> None:
        """Let the program go on when the session is closed; what it prints then goes nowhere."""
        ...


class AttachSession(Protocol):
    """The input side of a live container; output is in its log (Logging.logs with follow)."""

    def write(self, data: bytes) -> None:
        """Send bytes to its standard input; blocks while it does not read."""
        ...

    def close_stdin(self) -> None:
        """Give it end-of-file."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal the size."""
        ...

    def close(self) -> None:
        """Detach; the container goes on."""
        ...
