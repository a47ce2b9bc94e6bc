"""Starting a container again when its program has ended, as its restart policy says.

The supervisor does it itself: it stays, keeps log, socket and clients, and makes the container anew after a
pause of 100 ms that doubles up to a minute. A run of ten seconds counts as good life: the row begins anew.
"""

from __future__ import annotations

import signal
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from backends.container import RestartPolicy
from backends.errors import Busy, InnkeeperError, NotFound, StartFailed
from backends.native import protocol

if TYPE_CHECKING:
    from backends.native.supervisor import Supervisor

FIRST_PAUSE_S, LONGEST_PAUSE_S, GOOD_LIFE_S = 0.1, 60.0, 10.0
_LOCKED_S = 0.05

USER, HOST = "user", "host"
"""Who can end a container so that it stays ended: somebody, or the host that goes down."""


def is_wanted(policy: RestartPolicy, exit_code: int, row: int) -> bool:
    """Say whether a program that ended by itself is started again, after so many starts in a row."""
    if policy.name == "on-failure":
        return exit_code != 0 and (policy.most is None or row < policy.most)
    return policy.name in ("always", "unless-stopped")


def is_wanted_at_boot(policy: RestartPolicy, *, was_live: bool, ended_by: str) -> bool:
    """Say whether a container is started when the host comes up: always even one that was stopped by hand."""
    if policy.name == "on-failure":
        return was_live or ended_by == HOST
    return policy.name == "always" or (policy.name == "unless-stopped" and ended_by != USER)


def pause_after(pause_s: float) -> float:
    """Return the pause that follows one of this length; 0: the first."""
    return min(LONGEST_PAUSE_S, pause_s * 2) if pause_s else FIRST_PAUSE_S


class Restarts:
    """The starts of one container by its supervisor."""

    def __init__(self, owner: Supervisor) -> None:
        self._owner = owner
        self.count = 0
        self.ended_by = ""
        self.note = ""
        """What is to be told of the end that is coming; empty: what it was."""

        self._pause_s = 0.0
        self._due_s = 0.0
        self._in_a_hurry: list[socket.socket] = []
        """Clients that do not want to wait for the pause's end."""

    # ---- from clients

    def end(self, by: str) -> None:
        """It is to stay ended: somebody ended it."""
        self.ended_by = by
        self._due_s = 0.0

    def is_ending(self, note: str) -> None:
        """Its end is on the way, and meant; or not, with an empty note."""
        self.ended_by, self.note = (USER, note) if note else ("", "")

    def ends_by_signal(self, number: int, stop_signal: str) -> None:
        """Somebody sent a signal that asks for the end: that end is then meant."""
        if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT) or stop_signal == _name_of(number):
            self.end(USER)

    def hurry(self, client: socket.socket) -> None:
        """Start now; the client is told how it went."""
        self._in_a_hurry.append(client)
        self._due_s = 0.0

    def reconsider(self) -> None:
        """The policy has changed."""
        if not is_wanted(self._policy(), self._owner.exit_code or 0, self.count - 1):
            self._due_s = 0.0

    # ---- the supervisor's

    def take_up(self, count: int) -> None:
        """Go on with a row that another supervisor began, which died."""
        self.count = count
        for _ in range(count):
            self._pause_s = pause_after(self._pause_s)

    def again(self, lived_s: float) -> bool:
        """Wait as long as is due and start it again; False if it stays ended."""
        while self._goes_on(lived_s):
            self._pause_s = pause_after(self._pause_s)
            self.count += 1
            self._due_s = time.monotonic() + self._pause_s
            self._owner.is_restarting(self._pause_s)
            if self._wait_and_start():
                return True
            lived_s = 0.0
        return False

    def _goes_on(self, lived_s: float) -> bool:
        if lived_s >= GOOD_LIFE_S:
            self.count, self._pause_s = 0, 0.0
        assert self._owner.exit_code is not None
        return not self.ended_by and is_wanted(self._policy(), self._owner.exit_code, self.count)

    def _wait_and_start(self) -> bool:
        while True:
            while not self.ended_by and (left_s := self._due_s - time.monotonic()) > 0:
                self._owner.turn(left_s)
            # One start more was counted already; asked for by hand it comes whatever the policy.
            wanted = self._in_a_hurry or is_wanted(self._policy(), self._owner.exit_code or 0, self.count - 1)
            if self.ended_by or not wanted:
                self.count -= 1
                return self._refused(InnkeeperError("it was told to end"))
            try:
                with self._owner.store.locked(self._owner.id, timeout_s=0.0):
                    self._owner.begin_again()
            except Busy:
                self._due_s = time.monotonic() + _LOCKED_S
            except NotFound as error:
                self.ended_by = USER
                return self._refused(error)
            except (StartFailed, InnkeeperError) as error:
                return self._refused(error)
            else:
                self._answer({"ok": True, "pid": self._owner.init_pid})
                return True

    def _refused(self, error: InnkeeperError) -> bool:
        self._answer({**protocol.error_message(error), "exit_code": error.exit_code})
        return False

    def _answer(self, message: dict[str, object]) -> None:
        clients, self._in_a_hurry = self._in_a_hurry, []
        for client in clients:
            with suppress(protocol.Closed, OSError):
                protocol.send(client, message)

    def _policy(self) -> RestartPolicy:
        try:
            return self._owner.store.record(self._owner.id).restart_policy
        except (InnkeeperError, OSError):
            return RestartPolicy()  # it was removed from under us, or its record damaged


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""
