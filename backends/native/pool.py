"""Supervisors with their makers that the spawner forks in idle time, for the next `run`.

Forking the two and touching the memory that a start needs takes as long as the start itself. One pair is kept;
it is made when the spawner has had nothing to do for a moment after a `run`, and ends with the spawner. A
request that finds none, as most of many at once do, is served by a fork as ever.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backends.native import protocol
from backends.native.store import new_id

_QUIET_S = 0.03
_END_S = 2.0


class Pool:
    """At most one pair that stands by."""

    def __init__(self, mark: Path, fork: Callable[[socket.socket, Mapping[str, Any]], int]) -> None:
        """fork(orders, like) forks a supervisor that waits at `orders`, and returns its pid.

        mark is a file with the ids whose control groups are in use though there may be no such containers yet.
        """
        self._fork, self._mark = fork, mark
        self._id = ""
        self._pid = 0
        self._orders: socket.socket | None = None
        self._like: Mapping[str, Any] | None = None
        self._due_s = 0.0

    def wait_s(self, most_s: float) -> float:
        """Return how long the spawner may wait for other things."""
        if self._like is None or self._orders is not None:
            return most_s
        return min(most_s, max(0.0, self._due_s - time.monotonic()))

    def refill(self) -> None:
        """Make a pair if there is none and it is time. Call it when nothing else is to be done."""
        if self._like is None or self._orders is not None or time.monotonic() < self._due_s:
            return
        # Known before the fork: the pair lets go of our end, and so hears it when we end.
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        last, self._id = self._id, new_id()
        with theirs:
            try:
                # The last one too, which may be on its way still.
                self._mark.write_text(f"{self._id} {last}")
                self._pid = self._fork(theirs, {**self._like, "id": self._id})
            except OSError:  # too many processes; it is only a convenience
                self.close()
                self._like = None

    def take(self, order: Mapping[str, Any], client: socket.socket) -> tuple[int, str]:
        """Give an order to the pair; return the supervisor's pid, 0 if there is no pair for it, and the new id."""
        self._like, self._due_s = order, time.monotonic() + _QUIET_S
        orders, self._orders = self._orders, None
        if orders is None or (order.get("spec") or {}).get("stdin"):
            self._orders = orders
            return 0, ""
        try:
            with orders:
                protocol.send(orders, {**order, "id": self._id}, [client.fileno()])
        except (protocol.Closed, OSError):
            return 0, ""
        return self._pid, self._id

    def later(self) -> None:
        """Something else is going on: wait for a quiet moment anew."""
        self._due_s = time.monotonic() + _QUIET_S

    def forget(self, pid: int) -> None:
        """A child has ended; it may have been the one that stood by."""
        if pid == self._pid and self._orders is not None:
            self.close()

    def end(self) -> None:
        """Let the pair end, and wait a while until all that it had made is gone."""
        is_there = self._orders is not None
        self.close()
        deadline = time.monotonic() + _END_S
        while is_there and time.monotonic() < deadline:
            try:
                if os.waitpid(self._pid, os.WNOHANG)[0]:
                    return
            except ChildProcessError:
                return
            time.sleep(0.002)

    def close(self) -> None:
        """Let the pair end, or in a fork: let go of it."""
        if self._orders is not None:
            self._orders.close()
            self._orders = None
