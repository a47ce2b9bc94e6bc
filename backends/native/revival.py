"""Containers whose supervisor died and that their restart policy wants back: the spawner's part of restarting.

The spawner sees the death of its own supervisors as their parent, and that of those an earlier spawner forked
through a pidfd. What nobody saw (neither lived) it finds when it starts, which the next command brings about.
"""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable
from contextlib import suppress

from backends.errors import InnkeeperError
from backends.kernel import procfs
from backends.kernel.cgroup import CgroupHost
from backends.model import GuestState
from backends.native.record import Status
from backends.native.restart import is_wanted
from backends.native.store import ContainerStore
from backends.native.sweep import clean_up_after

_UNKNOWN = 255
"""What counts as the exit code where nobody saw the end."""


class Revival:
    """Cleans up after supervisors that died, and has those containers started again that are to be."""

    def __init__(self, store: ContainerStore, host: CgroupHost, revive: Callable[[str], None]) -> None:
        self._store, self._host, self._revive = store, host, revive
        self._watched: dict[int, str] = {}

    def after(self, container_id: str) -> None:
        """A supervisor has ended, perhaps in order."""
        with suppress(InnkeeperError, OSError):
            before = self._store.status(container_id)
            if clean_up_after(self._store, self._host, container_id) and self._is_wanted(container_id, before):
                self._revive(container_id)

    def look(self, selector: selectors.BaseSelector, own: Callable[[str], bool]) -> None:
        """Find what died unseen, and watch the supervisors that are not our children."""
        for container_id in self._store.ids():
            if self._store.is_orphaned(container_id):
                with suppress(InnkeeperError):  # it vanished, or is damaged: all others are still looked at
                    if self._store.status(container_id).boot_id == procfs.boot_id():
                        self.after(container_id)
            elif not own(container_id) and container_id not in self._watched.values():
                self._watch(selector, container_id)

    def _watch(self, selector: selectors.BaseSelector, container_id: str) -> None:
        try:
            if self._store.record(container_id).restart_policy.name == "no":
                return
            pidfd = os.pidfd_open(self._store.supervisor_pid(container_id))
        except (InnkeeperError, OSError, ValueError):
            return  # it has none, or not any more

        def gone() -> None:
            selector.unregister(pidfd)
            os.close(pidfd)
            del self._watched[pidfd]
            self.after(container_id)

        self._watched[pidfd] = container_id
        selector.register(pidfd, selectors.EVENT_READ, gone)

    def _is_wanted(self, container_id: str, before: Status) -> bool:
        if before.boot_id != procfs.boot_id() or before.state == GuestState.STOPPING.value or before.ended_by:
            return False
        state = GuestState(before.state)
        was_kept = state.is_live or state is GuestState.RESTARTING
        policy = self._store.record(container_id).restart_policy
        return was_kept and is_wanted(policy, _UNKNOWN, before.restarts)
