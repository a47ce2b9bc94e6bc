"""What a driver does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # a client that only asks whether a driver works loads none of it
    import socket

    from backends.kernel.account import Account
    from backends.kernel.cgroup import CgroupHost
    from backends.oci.join import Joined, JoinRequest
    from backends.oci.request import Created, CreateRequest
    from backends.trace import Recorder, Step


class Joining(Protocol):
    """A program on its way into a container."""

    sync: socket.socket
    """Readable when hear() has something to do."""

    stage_pid: int
    """A child of ours that works on it; 0 once it has been reaped."""

    pid: int
    """The program's, once it is known."""

    def hear(self) -> bool:
        """Take one message; True when the program runs. Raises StartFailed, BlockingIOError, OSError."""

    def result(self) -> Joined:
        """Return the program that runs; descriptors are the caller's from then on."""

    def undo(self) -> None:
        """End it, whatever it has become so far."""


class Driver(Protocol):
    """Makes a container's first process, and further ones beside it."""

    name: str

    def check(self, host: CgroupHost) -> None:
        """Raise Unsupported where it cannot work, with what would help."""

    def create(self, request: CreateRequest, recorder: Recorder) -> Created:
        """Make the container; its program waits. Raises StartFailed after undoing everything."""

    def started(self, created: Created) -> None:
        """Let the program run, and return when it does. Raises StartFailed; created.undo() is then the caller's."""

    def begin_join(self, request: JoinRequest) -> Joining:
        """Begin to run a further program in it. Raises NotRunning, OciError."""

    def explain(self, request: CreateRequest, user: Account) -> Sequence[tuple[str, Step]]:
        """Return (process, step) of a start in order, none of them run."""
