"""Init made by the runtime itself, in one system call, where no stage is needed.

A stage has to come between where namespaces of others are entered, or where a user namespace needs its maps, or a
time namespace its offsets, before init is there. In all other cases init is born in its namespaces and its group.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from backends.kernel import cloning
from backends.kernel.cgroup_entrance import Entrance
from backends.kernel.mounts import KernelStep
from backends.kernel.namespaces import FLAGS, Unshare
from backends.oci.stage import Namespaces


def is_possible(namespaces: Namespaces) -> bool:
    """Say whether a container needs no stage."""
    return not namespaces.paths and not {"user", "time"} & namespaces.new


@dataclass(frozen=True, slots=True)
class BearInit(KernelStep):
    """Make init in new namespaces of these types."""

    types: tuple[str, ...]
    entrance: Entrance | None = None
    """The way into its group."""

    become: Callable[[], None] | None = None
    """What init does; None where the step is only told about."""

    kind = "clone"

    def describe(self) -> str:
        return f"new process in new namespaces: {', '.join(self.types)}"

    def by_hand(self) -> str:
        return f"{Unshare(self.types).by_hand()} --fork"

    def run(self) -> int:
        """Return init's pid; init itself does not come back. Raises OSError, nothing being done then."""
        assert self.become is not None
        flags = 0
        for kind in self.types:
            flags |= FLAGS[kind]
        pid = cloning.clone(flags) if self.entrance is None else self.entrance.bear(flags)
        if pid == 0:
            try:
                self.become()
            finally:
                os._exit(125)
        return pid
