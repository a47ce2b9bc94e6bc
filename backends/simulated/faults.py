"""Switches with which a test makes a backend hang, die and come back."""

from __future__ import annotations

import threading
from collections import Counter

from backends.errors import BackendUnavailable

ALL = "*"


class Faults:
    """Decides at the beginning of each call whether it goes on, hangs or fails."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._hanging: set[str] = set()
        self._why_dead = ""
        self._hung = 0
        self.calls: Counter[str] = Counter()
        """How often each method was entered."""

    def hang(self, *calls: str) -> None:
        """Let the named methods ("open", "guests", "sample", "stop" …), or all, block until release()."""
        with self._changed:
            self._hanging |= set(calls or (ALL,))

    def release(self) -> None:
        """Let what hangs go on."""
        with self._changed:
            self._hanging.clear()
            self._changed.notify_all()

    def die(self, why: str = "the simulated daemon is gone") -> None:
        """Let every call fail with BackendUnavailable until revive(), those that hang too."""
        with self._changed:
            self._why_dead = why
            self._hanging.clear()
            self._changed.notify_all()

    def revive(self) -> None:
        """Answer again, after a new open()."""
        with self._changed:
            self._why_dead = ""

    @property
    def hung(self) -> int:
        """Calls that hang now."""
        return self._hung

    def enter(self, call: str) -> None:
        """Count the call; block or raise as the switches say."""
        with self._changed:
            self.calls[call] += 1
            self._hung += 1
            self._changed.wait_for(lambda: not self._hanging & {call, ALL})
            self._hung -= 1
            if self._why_dead:
                raise BackendUnavailable(f"cannot reach the simulated backend: {self._why_dead}")
