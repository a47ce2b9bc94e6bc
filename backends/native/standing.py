"""What is on record of a container's state, kept by its supervisor (status.json)."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from backends.errors import Damaged
from backends.kernel import procfs
from backends.model import GuestState
from backends.native.record import Status

if TYPE_CHECKING:
    from backends.native.supervisor import Supervisor


class Standing:
    """The status of one supervisor's container. What changes it raises OSError: a full disk, say."""

    def __init__(self, owner: Supervisor) -> None:
        self._owner = owner
        self._status = Status()

    @property
    def state(self) -> str:
        """What was put on record last; of the run, which may have ended."""
        return self._status.state

    def runs(self, *, health: str) -> None:
        """The program runs."""
        owner = self._owner
        self._put(
            Status(
                state=GuestState.RUNNING.value,
                pid=owner.init_pid,
                pid_start=procfs.start_ticks(owner.init_pid),
                boot_id=procfs.boot_id(),
                started_s=time.time(),
                restarts=owner.restarts.count,
                health=health,
            )
        )

    def is_now(self, state: GuestState) -> None:
        """It is in another live state."""
        self._put(replace(self._status, state=state.value))

    def has_health(self, health: str) -> None:
        """It is in another state of health."""
        self._put(replace(self._status, health=health))

    def lost(self, oom_kills: int | None) -> None:
        """Take note of how many processes were killed for want of memory; on record with the end."""
        self._status = replace(self._status, oom_kills=oom_kills)

    def ended(self, exit_code: int, note: str, state: GuestState = GuestState.STOPPED, *, did_run: bool = True) -> None:
        """It has ended; without did_run it did not even start, and is again what it was before."""
        store, restarts = self._owner.store, self._owner.restarts
        try:
            before = store.status(self._owner.id)
        except Damaged:
            before = Status()
        store.write_status(
            self._owner.id,
            Status(
                state=(state if did_run or before.started_s else GuestState.CREATED).value,
                boot_id=procfs.boot_id(),
                started_s=self._status.started_s if did_run and self._status.started_s else before.started_s,
                finished_s=time.time(),
                exit_code=exit_code,
                oom_kills=self._status.oom_kills if did_run else None,
                note=note,
                restarts=restarts.count,
                ended_by=restarts.ended_by,
            ),
        )

    def _put(self, status: Status) -> None:
        self._status = status
        self._owner.store.write_status(self._owner.id, status)


def note_of(wait_status: int) -> str:
    """Return what is to be said of an end: by which signal, if it was one."""
    if not os.WIFSIGNALED(wait_status):
        return ""
    number = os.WTERMSIG(wait_status)
    known = {int(found): found.name for found in signal.Signals}
    return f"killed by {known.get(number, f'signal {number}')}"
