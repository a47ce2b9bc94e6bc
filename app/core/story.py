"""What happened to guests, from every backend: its own record where it keeps one, else what is seen to change."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from app.core.workstation import Workstation
from backends.capabilities import Telling
from backends.errors import InnkeeperError
from backends.events import Event, GuestAdded, GuestChanged, GuestEvent, GuestGone
from backends.model import Guest, GuestRef, GuestState

_PAUSE_S = 0.2


class Story:
    """The events of all backends of a workstation."""

    def __init__(self, station: Workstation) -> None:
        self._station = station
        self._told: queue.SimpleQueue[GuestEvent] = queue.SimpleQueue()
        self._ends = threading.Event()
        self._names = {guest.ref: guest.name for guest in station.fleet.guests()}

    def events(self, *, since_s: float | None, follow: bool, stop: Callable[[], bool]) -> Iterator[GuestEvent]:
        """Yield what happened since then in order, and with follow what happens until stop() is true."""
        backends = [self._station.backend(status.name) for status in self._station.statuses() if status.state == "up"]
        telling = [backend for backend in backends if isinstance(backend, Telling)]
        if not follow:
            past = [event for backend in telling for event in backend.events(since_s=since_s)]
            yield from sorted(past, key=lambda event: event.time_s)
            return
        own = frozenset(backend.name for backend in backends if isinstance(backend, Telling))
        unsubscribe = self._station.subscribe(lambda event: self._seen(event, own))
        threads = [threading.Thread(target=self._tell, args=(each, since_s), daemon=True) for each in telling]
        for thread in threads:
            thread.start()
        try:
            while not stop():
                with suppress(queue.Empty):
                    yield self._told.get(timeout=_PAUSE_S)
        finally:
            self._ends.set()
            unsubscribe()
            for thread in threads:
                thread.join(2 * _PAUSE_S + 1.0)

    def _tell(self, backend: Telling, since_s: float | None) -> None:
        try:
            for event in backend.events(since_s=since_s, follow=True, stop=self._ends.is_set):
                self._told.put(event)
        except InnkeeperError:  # it went away; the others go on
            return

    def _seen(self, event: Event, own: frozenset[str]) -> None:
        found = told_by(event, self._names)
        if found is not None and found.ref.backend not in own:
            self._told.put(found)


def told_by(event: Event, names: dict[GuestRef, str]) -> GuestEvent | None:
    """Return what an event of the core tells; None if that is nothing. `names` is kept up to date."""
    if isinstance(event, GuestGone):
        return GuestEvent(time.time(), event.ref, names.pop(event.ref, ""), "remove")
    if isinstance(event, GuestAdded):
        names[event.guest.ref] = event.guest.name
        return _of(event.guest, "create", {"image": event.guest.image or ""})
    if isinstance(event, GuestChanged):
        names[event.guest.ref] = event.guest.name
        return _change(event.before, event.guest)
    return None


def _change(before: Guest, now: Guest) -> GuestEvent | None:
    if before.state is not now.state:
        return _of_state(before, now)
    if before.name != now.name:
        return _of(now, "rename", {"before": before.name})
    if before.health != now.health:
        return _of(now, "health_status", {"health": now.health})
    if (before.limits, before.restart_policy) != (now.limits, now.restart_policy):
        return _of(now, "update", {})
    if (now.oom_kills or 0) > (before.oom_kills or 0):
        return _of(now, "oom", {"kills": str(now.oom_kills)})
    return None


def _of_state(before: Guest, now: Guest) -> GuestEvent | None:
    if now.state.is_live and not before.state.is_live:
        return _of(now, "start", {})
    if before.state.is_live and not now.state.is_live:
        exit_code = "" if now.exit_code is None else str(now.exit_code)
        return _of(now, "die", {"exit_code": exit_code, "note": now.note})
    actions = {GuestState.PAUSED: "pause", GuestState.RUNNING: "unpause", GuestState.STOPPING: "stop"}
    action = actions.get(now.state)
    return _of(now, action, {}) if action else None


def _of(guest: Guest, action: str, attributes: dict[str, str]) -> GuestEvent:
    return GuestEvent(
        time.time(), guest.ref, guest.name, action, {key: text for key, text in attributes.items() if text}
    )
