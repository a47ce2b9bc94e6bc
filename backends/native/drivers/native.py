"""Our own OCI runtime as a driver."""

from __future__ import annotations

from collections.abc import Sequence

from backends.kernel.account import Account
from backends.kernel.cgroup import CgroupHost
from backends.oci import create, join, steps
from backends.oci.join import Joining, JoinRequest
from backends.oci.request import Created, CreateRequest
from backends.trace import Recorder, Step


class NativeDriver:
    """backends/oci, in this process."""

    name = "native"

    def check(self, host: CgroupHost) -> None:
        """It works wherever the backend does."""

    def create(self, request: CreateRequest, recorder: Recorder) -> Created:
        """Make the container; its gate is open already, so it does not wait for started()."""
        return create.create(request, recorder)

    def started(self, created: Created) -> None:
        """Wait for execve."""
        create.started(created, is_open=True)

    def begin_join(self, request: JoinRequest) -> Joining:
        """Fork the stage that joins."""
        return join.begin(request)

    def explain(self, request: CreateRequest, user: Account) -> Sequence[tuple[str, Step]]:
        """Every step, down to execve."""
        return steps.explain(request, user, "supervisor")
