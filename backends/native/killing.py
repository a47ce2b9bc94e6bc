"""Telling of processes that the kernel kills for want of memory, while their container lives on."""

from __future__ import annotations

import selectors
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from backends.errors import InnkeeperError
from backends.kernel.cgroup_oom import OomWatch

if TYPE_CHECKING:
    from backends.native.supervisor import Supervisor

_PAUSE_S = 1.0
"""So often at most: a container may have a process killed a thousand times a second."""


class OomTeller:
    """The watch over one run of one container."""

    def __init__(self, owner: Supervisor) -> None:
        self._owner = owner
        self._watch: OomWatch | None = None
        self._told = 0
        self._untold = 0
        self._last_s = float("-inf")

    def begin(self) -> None:
        """Watch from now on, where this kernel tells."""
        self._told = self._untold = 0
        with suppress(InnkeeperError, OSError):
            self._watch = OomWatch(self._owner.group)
            self._owner.selector.register(self._watch.fileno(), selectors.EVENT_READ, self._hear)

    def end(self, kills: int | None) -> None:
        """The run is over; so many were killed in all, as the kernel counted."""
        self._stop()
        self._untold = max(0, (kills or 0) - self._told)
        self._tell()

    def _hear(self) -> None:
        assert self._watch is not None
        try:
            self._untold += self._watch.kills()
            is_over = self._watch.is_over
        except (InnkeeperError, OSError):  # the group has gone
            is_over = True
        if time.monotonic() - self._last_s >= _PAUSE_S:
            self._tell()
        if is_over:
            self._stop()

    def _tell(self) -> None:
        if self._untold:
            self._owner.tell("oom", kills=self._untold)
            self._told += self._untold
            self._untold, self._last_s = 0, time.monotonic()

    def _stop(self) -> None:
        if self._watch is not None:
            with suppress(KeyError, ValueError):
                self._owner.selector.unregister(self._watch.fileno())
            self._watch.close()
            self._watch = None
