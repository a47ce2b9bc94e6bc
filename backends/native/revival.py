"""Containers whose supervisor died and that their restart policy wants back: the spawner's part of restarting.

The spawner sees the death of its own supervisors as their parent, and that of those an earlier spawner forked
through a pidfd. What nobody saw (neither lived) it finds when it starts, which the next command brings about.

Cleaning up takes as long as the kernel takes to end what ran, seconds or for ever where a task waits in it. The
spawner only forks who does it, and goes on with starts.
"""

from __future__ import annotations

import os
import selectors
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from backends.errors import InnkeeperError, NotFound
from backends.kernel import procfs
from backends.kernel.cgroup import CgroupHost
from backends.model import GuestState
from backends.native.restart import is_wanted
from backends.native.store import ContainerStore
from backends.native.supervisor import Supervisor
from backends.native.sweep import clean_up_after, is_left_alone

_UNKNOWN = 255
"""What counts as the exit code where nobody saw the end."""

_DONE, _NOTHING, _NOT_YET = range(3)
"""How a cleaner ends."""

_AGAIN_S = 5.0
"""The pause between two tries at cleaning up, in which any verb can take the container."""


class Revival:
    """The spawner's eyes for supervisors that die."""

    def __init__(self, store: ContainerStore, succeed: Callable[[str], None]) -> None:
        """succeed(container_id) forks a process for revive()."""
        self._store, self._succeed = store, succeed
        self._watched: dict[int, str] = {}

    def after(self, container_id: str) -> None:
        """A supervisor has ended, perhaps in order."""
        with suppress(InnkeeperError, OSError):
            if is_left_alone(self._store, container_id):
                self._succeed(container_id)

    def look(self, selector: selectors.BaseSelector, own: Callable[[str], bool]) -> None:
        """Find what died unseen, and watch the supervisors that are not our children."""
        for container_id in self._store.ids():
            if own(container_id):
                continue
            if self._store.is_orphaned(container_id):
                with suppress(InnkeeperError):  # it vanished, or is damaged: all others are still looked at
                    if self._store.status(container_id).boot_id == procfs.boot_id():
                        self.after(container_id)
            elif container_id not in self._watched.values():
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


def revive(store: ContainerStore, host: CgroupHost, container_id: str) -> None:
    """Run in a fork of the spawner: clean up after a supervisor that died, and be the next one if it is to have one.

    Tries until nothing is left or the spawner has gone. Raises InnkeeperError, OSError.
    """
    before, policy = store.status(container_id), store.record(container_id).restart_policy
    state = GuestState(before.state)
    was_kept = state.is_live or state is GuestState.RESTARTING
    is_meant = before.boot_id != procfs.boot_id() or before.state == GuestState.STOPPING.value or before.ended_by
    if not _clean_up(store, host, container_id):
        return
    if was_kept and not is_meant and is_wanted(policy, _UNKNOWN, before.restarts):
        supervisor = Supervisor(store, container_id, host)
        if supervisor.take_up():
            supervisor.serve()


def _clean_up(store: ContainerStore, host: CgroupHost, container_id: str) -> bool:
    """Clean up in a process of its own, whose memory the next supervisor need not keep; says whether it did."""
    spawner = os.getppid()
    while (code := _fork_cleaner(store, host, container_id)) == _NOT_YET and os.getppid() == spawner:
        time.sleep(_AGAIN_S)
        if not is_left_alone(store, container_id):
            return False  # somebody else has
    return code == _DONE


def _fork_cleaner(store: ContainerStore, host: CgroupHost, container_id: str) -> int:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = _NOT_YET
    try:
        code = _DONE if clean_up_after(store, host, container_id) else _NOTHING
    except NotFound:
        code = _NOTHING
    except (InnkeeperError, OSError) as error:
        print(f"cannot clean up after container {container_id}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)
