"""Lists that backends keep (images, networks), asked for off the event loop while somebody looks at them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from app.tui.asker import Answer
from backends.base import Backend
from backends.errors import BackendUnavailable, InnkeeperError

if TYPE_CHECKING:
    from app.tui.application import InnkeeperApp
    from app.tui.roster import Roster

T = TypeVar("T")

LATE_S = 2.0
"""After this time without an answer one says so."""

GAP_S = 0.5
"""News come in bursts: a list is not asked for more often."""


class Shelf(Generic[T]):
    """What each capable backend said last, and which of them are silent."""

    def __init__(
        self,
        app: InnkeeperApp,
        roster: Roster,
        what: str,
        capability: type[Any],
        read: Callable[[Any], Sequence[T]],
        changed: Callable[[], object],
    ) -> None:
        """`read` is called with a backend on a thread of its own, `changed` on the event loop."""
        self._app, self._roster, self._what = app, roster, what
        self._capability, self._read, self._changed = capability, read, changed
        self._asked_s: dict[str, float] = {}
        self._answered_s: dict[str, float] = {}
        self._again: set[str] = set()
        self.items: dict[str, Sequence[T]] = {}
        self.errors: dict[str, InnkeeperError] = {}

    def backends(self, capability: type[Any] | None = None) -> list[Backend]:
        """Return the backends that are up and have the capability."""
        wanted = capability or self._capability
        found: list[Backend] = []
        for status in self._roster.statuses:
            try:
                backend = self._roster.station.backend(status.name)
            except BackendUnavailable:
                continue
            if isinstance(backend, wanted):
                found.append(backend)
        return found

    def refresh(self, *, older_than_s: float = GAP_S) -> None:
        """Ask those that are not being asked and whose last answer is that old."""
        now_s = time.monotonic()
        for backend in self.backends():
            if backend.name in self._asked_s:
                if older_than_s <= GAP_S:
                    self._again.add(backend.name)
            elif now_s - self._answered_s.get(backend.name, float("-inf")) >= older_than_s:
                self._ask(backend)

    def late(self) -> list[tuple[str, float]]:
        """Return who has not answered for long, and for how long."""
        now_s = time.monotonic()
        return [(name, now_s - asked_s) for name, asked_s in self._asked_s.items() if now_s - asked_s > LATE_S]

    def is_stale(self, name: str) -> bool:
        """True if what is known of a backend's things is old."""
        up = {status.name for status in self._roster.statuses if status.state == "up"}
        return name not in up or name in self.errors or any(name == late for late, _ in self.late())

    @property
    def has_answer(self) -> bool:
        """True once a backend answered, well or not."""
        return bool(self._answered_s)

    def _ask(self, backend: Backend) -> None:
        name = backend.name
        self._asked_s[name] = time.monotonic()

        def reply(answer: Answer[Sequence[T]]) -> None:
            self._asked_s.pop(name, None)
            self._answered_s[name] = time.monotonic()
            if answer.error is not None:
                self.errors[name] = answer.error
            else:
                self.errors.pop(name, None)
                self.items[name] = answer.value
            self._changed()
            if name in self._again:
                self._again.discard(name)
                self._ask(backend)

        self._app.asker.ask(f"{self._what} {name}", self._what, lambda: self._read(backend), reply)
