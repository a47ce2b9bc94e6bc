"""Freezing and thawing a container without waiting for it: a task may be in the kernel for long before it stops."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from backends.errors import InnkeeperError, TimedOut, WrongState
from backends.kernel.cgroup_file import GuestVanished
from backends.model import GuestState
from backends.native import protocol

if TYPE_CHECKING:
    from backends.native.supervisor import Supervisor

_TIMEOUT_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.02


class Freezer:
    """What one supervisor's container is told to be, frozen or not, until it is so."""

    def __init__(self, owner: Supervisor) -> None:
        self._owner = owner
        self._client: socket.socket | None = None
        self._holder: socket.socket | None = None
        """The client for as long as whose connection the container is frozen."""

        self._to_freeze = False
        self._pause_s = self._deadline_s = 0.0
        self.due_s: float | None = None
        """When to look whether it is so, on time.monotonic's clock; None: nothing is on its way."""

    @property
    def is_freezing(self) -> bool:
        """True from the wish until all of it has stopped."""
        return self.due_s is not None and self._to_freeze

    def freeze(self, client: socket.socket, *, hold: bool) -> None:
        """Freeze it and tell the client when all of it has stopped. With hold until the client is gone.

        Raises WrongState, InnkeeperError.
        """
        if self.is_freezing:
            raise WrongState(f"{self._owner.record.name} is just being paused")
        self.give_up("it is paused again")
        self._owner.group.set_frozen(True)
        self._holder = client if hold else None
        self._begin(client, to_freeze=True)

    def thaw(self, client: socket.socket | None) -> None:
        """Let it go on, and tell the client when it does. Raises InnkeeperError."""
        self.give_up("it was told to go on")
        self._holder = None
        self._owner.group.set_frozen(False)
        self._begin(client, to_freeze=False)

    def forget(self, client: socket.socket) -> None:
        """A client went away: what it held frozen goes on."""
        if client is self._client:
            self._client = None
        if client is self._holder:
            with suppress(InnkeeperError, OSError):
                self.thaw(None)

    def give_up(self, why: str) -> None:
        """Wait no longer for what is on its way; who asked for it is told why."""
        if self.due_s is not None:
            self._refuse(WrongState(f"{self._owner.record.name} was not {self._verb}: {why}"))

    def end(self) -> None:
        """The program has ended."""
        self._holder = None
        self.give_up("it has just ended")

    def look(self, now_s: float) -> None:
        """See whether it is so, if it is time."""
        if self.due_s is None or now_s < self.due_s:
            return
        group = self._owner.group
        try:
            if group.is_frozen() == self._to_freeze:
                self._done()
                return
            if now_s < self._deadline_s:
                if self._to_freeze:
                    group.freeze_again_if_v1()
                self.due_s = now_s + self._pause_s
                self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
                return
            if self._to_freeze:
                with suppress(GuestVanished):
                    group.set_frozen(False)
            why = "a task waits in the kernel" if self._to_freeze else "a group above it is frozen"
            raise TimedOut(f"{self._owner.record.name} was not {self._verb} within {_TIMEOUT_S:g} s: {why}")
        except InnkeeperError as error:
            self._refuse(error)
        except OSError as error:  # a full disk, which did not take the new state
            self._refuse(InnkeeperError(error.strerror or str(error)))

    @property
    def _verb(self) -> str:
        return "paused" if self._to_freeze else "resumed"

    def _begin(self, client: socket.socket | None, *, to_freeze: bool) -> None:
        self._client, self._to_freeze = client, to_freeze
        now_s = time.monotonic()
        self.due_s, self._deadline_s, self._pause_s = now_s, now_s + _TIMEOUT_S, _FIRST_PAUSE_S
        self.look(now_s)  # most often it is so at once

    def _done(self) -> None:
        if self._to_freeze:
            self._owner.standing.is_now(GuestState.PAUSED)
            self._owner.tell("pause")
        else:
            self._owner.tell("unpause")
            if self._owner.kill_at_s is None:
                self._owner.standing.is_now(GuestState.RUNNING)
        client, self.due_s, self._client = self._client, None, None
        if client is not None:
            with suppress(protocol.Closed, OSError):
                protocol.send(client, {"ok": True})

    def _refuse(self, error: InnkeeperError) -> None:
        client, self.due_s, self._client = self._client, None, None
        if self._to_freeze:
            self._holder = None
        if client is not None:
            self._owner.requests.refuse(client, error)
