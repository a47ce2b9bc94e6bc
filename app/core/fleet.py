"""All guests of all backends as last seen, and how a user's words find them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from backends.errors import AmbiguousName, NotFound
from backends.events import Event, GuestAdded, GuestChanged, GuestGone
from backends.model import Guest, GuestRef

MIN_PREFIX = 4
"""Characters of an id that may stand for all of it."""


class Fleet:
    """Every guest that is known. Readers never wait: each change replaces what they look at."""

    def __init__(
        self,
        pending: Callable[[GuestRef], str | None] = lambda ref: None,
        unread: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`unread` tells the backends whose guests are not known now, and why."""
        self._lock = threading.Lock()
        self._by_ref: dict[GuestRef, Guest] = {}
        self._sorted: tuple[Guest, ...] = ()
        self._names: Counter[str] = Counter()
        self._pending = pending
        self._unread = unread

    def guests(self) -> tuple[Guest, ...]:
        """Return all guests, by name."""
        return self._sorted

    def get(self, ref: GuestRef) -> Guest | None:
        """Return the guest, or None if it is not known (any more)."""
        return self._by_ref.get(ref)

    def display_name(self, guest: Guest) -> str:
        """Return its name, or backend/name where two guests share it."""
        return guest.name if self._names[guest.name] < 2 else f"{guest.ref.backend}/{guest.name}"

    def pending(self, ref: GuestRef) -> str | None:
        """Return the command that runs or waits on the guest now."""
        return self._pending(ref)

    def resolve(self, text: str) -> Guest:
        """Find a guest by name, backend/name, id, or the first characters of its id.

        An exact name wins over an id. Raises NotFound, AmbiguousName.
        """
        guests = self._sorted
        backend, slash, rest = text.partition("/")
        for found in (
            [guest for guest in guests if guest.name == text],
            [guest for guest in guests if slash and guest.ref.backend == backend and guest.name == rest],
            [guest for guest in guests if guest.ref.id == text or str(guest.ref) == text],
            [guest for guest in guests if len(text) >= MIN_PREFIX and guest.ref.id.startswith(text)],
        ):
            if len(found) == 1:
                return found[0]
            if found:
                raise self._ambiguous(text, found)
        raise NotFound(f"there is no guest {text!r}", hint=self._why_incomplete())

    def _ambiguous(self, text: str, found: list[Guest]) -> AmbiguousName:
        names = [f"{guest.ref.backend}/{guest.name}" for guest in found]
        if len(set(names)) < len(names):
            names = [str(guest.ref) for guest in found]
        return AmbiguousName(f"{text!r} fits {len(found)} guests", hint="say which: " + ", ".join(names))

    def _why_incomplete(self) -> str:
        return "; ".join(f"{backend} could not be asked: {why}" for backend, why in self._unread().items())

    def update(self, backend: str, listed: Iterable[Guest]) -> list[Event]:
        """Take over a backend's list and return what changed since the last one."""
        fresh = {guest.ref: guest for guest in listed}
        with self._lock:
            known = {ref: guest for ref, guest in self._by_ref.items() if ref.backend == backend}
            events: list[Event] = [GuestGone(ref) for ref in known if ref not in fresh]
            for ref, guest in fresh.items():
                before = known.get(ref)
                if before is None:
                    events.append(GuestAdded(guest))
                elif before is not guest and before != guest:
                    events.append(GuestChanged(guest, before))
            if events:
                self._replace({ref: guest for ref, guest in self._by_ref.items() if ref not in known} | fresh)
        return events

    def put(self, guest: Guest) -> list[Event]:
        """Take over one guest that was just made or changed."""
        with self._lock:
            before = self._by_ref.get(guest.ref)
            if before == guest:
                return []
            self._replace(self._by_ref | {guest.ref: guest})
        return [GuestAdded(guest) if before is None else GuestChanged(guest, before)]

    def _replace(self, by_ref: dict[GuestRef, Guest]) -> None:
        self._by_ref = by_ref
        self._sorted = tuple(sorted(by_ref.values(), key=lambda guest: (guest.name.casefold(), guest.ref)))
        self._names = Counter(guest.name for guest in by_ref.values())
