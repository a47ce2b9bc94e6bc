"""The connections to one libvirt host, and what is known of its guests.

::

    polling link   list and states, each second: never waits for a QEMU (and carries the events)
    details link   domain XML and the counters that QEMU itself must be asked for: can hang with a QEMU
    command links  one per command that runs; a command can take as long as its guest does

What a link does is bounded in time; see link.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from backends.base import Listener
from backends.errors import BackendUnavailable, InnkeeperError, NotFound
from backends.events import GuestsDirty
from backends.libvirt import api, event_loop
from backends.libvirt.api import Connection, Domain
from backends.libvirt.convert import BACKEND, Seen, ref_of
from backends.libvirt.domain_xml import DomainInfo, read_domain
from backends.libvirt.link import Link, Pool
from backends.model import GuestRef

T = TypeVar("T")

POLL_TIMEOUT_S = 5.0
DETAILS_TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 60.0
DETAILS_AGE_S = 30.0
"""After this the XML is read again also without an event that says it changed."""

SULK_S = 30.0
"""How long the details link is left alone after it hung."""

_EVENTS = (
    api.EVENT_LIFECYCLE, api.EVENT_REBOOT, api.EVENT_BALLOON, api.EVENT_DEVICE_REMOVED, api.EVENT_TUNABLE,
    api.EVENT_DEVICE_ADDED, api.EVENT_METADATA,
)  # fmt: skip


class LibvirtHost:
    """Talks to the libvirt of one URI."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._listener: Listener | None = None
        self._is_open = False
        self._polling: Link | None = None
        self._details: Link | None = None
        self._details_sulk_until = 0.0
        self._commands = Pool(uri)
        self._seen: dict[str, Seen] = {}
        self._infos: dict[str, tuple[DomainInfo, float]] = {}
        self._dirty: set[str] = set()
        self._news = threading.Condition()
        self._reboots: dict[str, int] = {}
        self._lock = threading.RLock()

    # ── connecting ──────────────────────────────────────────────────────────────────────────────────

    def open(self, listener: Listener | None) -> None:
        """Connect; raises BackendUnavailable."""
        event_loop.ensure_running()
        self._listener = listener
        self._is_open = True
        try:
            self.poll()
        except InnkeeperError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of all connections."""
        with self._lock:
            self._is_open = False
            links, self._polling, self._details = (self._polling, self._details), None, None
            self._listener = None
        for link in links:
            if link is not None:
                link.close()
        self._commands.close()
        with self._news:
            self._news.notify_all()

    def _polling_link(self) -> Link:
        with self._lock:
            if not self._is_open:
                raise BackendUnavailable(f"cannot talk to {self.uri}: not connected")
            if self._polling is None or not self._polling.is_usable:
                if self._polling is not None:
                    self._polling.close()
                self._polling = Link(self.uri, "polling", subscribe=self._subscribe)
                self._infos.clear()  # events were missed
            return self._polling

    def _details_link(self) -> Link | None:
        """Return the link that may hang with a QEMU; None for a while after it did."""
        with self._lock:
            link = self._details
            if link is not None and link.is_abandoned:
                self._details, link = None, None
                self._details_sulk_until = time.monotonic() + SULK_S
            if not self._is_open or time.monotonic() < self._details_sulk_until:
                return None
            if link is None or not link.is_usable:
                if link is not None:
                    link.close()
                self._details = link = Link(self.uri, "details")
            return link

    # ── events ──────────────────────────────────────────────────────────────────────────────────────

    def _subscribe(self, connection: Connection) -> list[int]:
        return [connection.domainEventRegisterAny(None, event, self._on_event, event) for event in _EVENTS]

    def _on_event(self, _connection: Connection, domain: Domain, *rest: Any) -> None:
        # Runs in libvirt's event thread: note it, wake who waits, return.
        uuid, event = domain.UUIDString(), rest[-1]
        with self._news:
            self._dirty.add(uuid)
            if event == api.EVENT_REBOOT:
                self._reboots[uuid] = self._reboots.get(uuid, 0) + 1
            self._news.notify_all()
        self.tell_dirty()

    def tell_dirty(self) -> None:
        """Ask the core to read the list again."""
        listener = self._listener
        if listener is not None:
            listener(GuestsDirty(BACKEND))

    def mark_dirty(self, uuid: str) -> None:
        """Read this guest's XML again at the next pass."""
        with self._news:
            self._dirty.add(uuid)
        self.tell_dirty()

    def reboots(self, uuid: str) -> int:
        """Return how many reboots of the guest were seen."""
        return self._reboots.get(uuid, 0)

    def wait_for_news(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Wait until the condition holds, asked after each event and twice a second; False at the deadline."""
        while True:
            if condition():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            with self._news:
                self._news.wait(min(left, 0.5))

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────

    def poll(self) -> list[Seen]:
        """Return all domains and their states, in one call that asks no QEMU. Raises BackendUnavailable."""
        found = self._polling_link().call("list the guests", _list_domains, POLL_TIMEOUT_S)
        self._seen = {seen.uuid: seen for seen in found}
        for gone in self._infos.keys() - self._seen.keys():
            self._infos.pop(gone, None)
        return found

    def seen(self) -> list[Seen]:
        """Return the domains of the last poll."""
        return list(self._seen.values())

    def refresh_details(self) -> None:
        """Read the XML of guests whose XML is missing, changed or old; gives up when libvirt hangs."""
        for uuid in self._outdated():
            link = self._details_link()
            if link is None:
                return
            with self._news:
                self._dirty.discard(uuid)
            try:
                self._infos[uuid] = (
                    link.call("read a guest's XML", _xml_reader(uuid), DETAILS_TIMEOUT_S),
                    time.monotonic(),
                )
            except NotFound:
                continue
            except InnkeeperError:
                self._dirty.add(uuid)
                if not link.is_usable:
                    return

    def _outdated(self) -> list[str]:
        now = time.monotonic()
        return [
            uuid
            for uuid in self._seen
            if uuid in self._dirty or uuid not in self._infos or now - self._infos[uuid][1] > DETAILS_AGE_S
        ]

    def info(self, uuid: str) -> DomainInfo | None:
        """Return what is known of a domain's XML; None before it was read."""
        found = self._infos.get(uuid)
        return found[0] if found else None

    def fresh_info(self, ref: GuestRef) -> DomainInfo:
        """Read a guest's XML now."""
        info = self.with_domain(ref, "read the XML", lambda domain: read_domain(domain.XMLDesc(0)))
        self._infos[ref.id] = (info, time.monotonic())
        return info

    # ── commands ────────────────────────────────────────────────────────────────────────────────────

    def details_call(self, what: str, work: Callable[[Connection], T]) -> T | None:
        """Run something that may hang with a QEMU; None when it does or did shortly before."""
        link = self._details_link()
        try:
            return None if link is None else link.call(what, work, DETAILS_TIMEOUT_S)
        except InnkeeperError:
            return None

    def command(self, what: str, work: Callable[[Connection], T], timeout_s: float = COMMAND_TIMEOUT_S) -> T:
        """Run something on a connection of its own; raises our errors."""
        if not self._is_open:
            raise BackendUnavailable(f"cannot {what}: not connected to {self.uri}")
        return self._commands.call(what, work, timeout_s)

    def with_domain(
        self, ref: GuestRef, what: str, work: Callable[[Domain], T], timeout_s: float = COMMAND_TIMEOUT_S
    ) -> T:
        """Run something on a domain; `what` completes "cannot … of NAME"."""
        seen = self._seen.get(ref.id)
        name = seen.name if seen else ref.id
        return self.command(
            f"{what} of {name}", lambda connection: work(connection.lookupByUUIDString(ref.id)), timeout_s
        )


def _list_domains(connection: Connection) -> list[Seen]:
    try:
        stats = connection.getAllDomainStats(api.STATS_STATE, api.GET_STATS_NOWAIT)
    except api.load().libvirtError:
        stats = connection.getAllDomainStats(api.STATS_STATE, 0)
    return [
        Seen(domain.UUIDString(), domain.name(), int(values.get("state.state", 0)), int(values.get("state.reason", 0)))
        for domain, values in stats
    ]


def _xml_reader(uuid: str) -> Callable[[Connection], DomainInfo]:
    def read(connection: Connection) -> DomainInfo:
        return read_domain(connection.lookupByUUIDString(uuid).XMLDesc(0))

    return read


def known(host: LibvirtHost, ref: GuestRef) -> Seen:
    """Return the domain as last seen, after one more look if need be. Raises NotFound."""
    for attempt in (host.seen, host.poll):
        for seen in attempt():
            if ref_of(seen.uuid) == ref:
                return seen
    raise NotFound(f"there is no virtual machine {ref.id} on {host.uri}")
