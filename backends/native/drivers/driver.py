"""What a driver does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # a client that only asks whether a driver works loads none of it
    from backends.kernel.account import Account
    from backends.kernel.cgroup import CgroupHost
    from backends.oci.join_request import JoinRequest
    from backends.oci.passage import Passage
    from backends.oci.request import Created, CreateRequest
    from backends.trace import Recorder, Step


class Driver(Protocol):
    """Makes a container's first process, and further ones beside it."""

    name: str

    def check(self, host: CgroupHost) -> None:
        """Raise Unsupported where it cannot work, with what would help."""

    def create(self, request: CreateRequest, recorder: Recorder) -> Created:
        """Make the container; its program waits. Raises StartFailed after undoing everything."""

    def started(self, created: Created) -> None:
        """Let the program run, and return when it does. Raises StartFailed; created.undo() is then the caller's."""

    def begin_join(self, request: JoinRequest) -> Passage:
        """Begin to run a further program in it. Raises NotRunning, OciError."""

    def explain(self, request: CreateRequest, user: Account) -> Sequence[tuple[str, Step]]:
        """Return (process, step) of a start in order, none of them run."""
