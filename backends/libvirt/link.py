"""One connection to libvirt, with the one thread that uses it.

libvirt's API has no timeouts: a call that reaches a QEMU that hangs blocks for as long as QEMU does. So
every call runs in the link's own thread, and the caller waits for a bounded time. When that is over, the
link is *abandoned*: its thread stays where it is, nobody uses it again, and the next call gets a new
link. Threads that hang are counted and capped over the whole process.

One thread a link also avoids the stalls and the memory error (CVE-2024-4418) that several threads in
blocking calls on one connection met in libvirt before 10.4.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from backends.errors import BackendUnavailable
from backends.libvirt.api import Connection, load
from backends.libvirt.failures import translated

T = TypeVar("T")

KEEPALIVE_S, KEEPALIVE_COUNT = 5, 3
MAX_STUCK = 8
"""Threads that may hang in libvirt at one time before no new link is made."""

_stuck_lock = threading.Lock()
_stuck = 0


def stuck_threads() -> int:
    """Return how many abandoned threads still hang in a libvirt call."""
    return _stuck


class _Job:
    __slots__ = ("done", "error", "is_counted", "result", "what", "work")

    def __init__(self, what: str, work: Callable[[Connection], object]) -> None:
        self.what = what
        self.work = work
        self.is_counted = False
        self.done = threading.Event()
        self.result: object = None
        self.error: BaseException | None = None


class Link:
    """A connection and its thread; make it, `call` it, `close` it."""

    def __init__(self, uri: str, purpose: str, *, subscribe: Callable[[Connection], list[int]] | None = None) -> None:
        self.uri = uri
        self.purpose = purpose
        self.is_abandoned = False
        self.lost = ""
        """Why the connection is gone, as libvirt told it; empty while it is there."""

        self._subscribe = subscribe
        self._subscriptions: list[int] = []
        self._busy = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._work, name=f"libvirt-{purpose}", daemon=True)
        self._thread.start()

    @property
    def is_usable(self) -> bool:
        """True while calls can be made."""
        return not (self.is_abandoned or self.lost)

    def call(self, what: str, work: Callable[[Connection], T], timeout_s: float) -> T:
        """Run `work` with the connection in the link's thread and return its result.

        Raises our errors; BackendUnavailable when it did not end in time, and the link is then abandoned.
        """
        if not self.is_usable:
            raise BackendUnavailable(f"cannot {what}: the connection to {self.uri} is gone ({self.lost or 'hung'})")
        job = _Job(what, work)
        self._jobs.put(job)
        if not job.done.wait(timeout_s):
            self._abandon(job)
            raise BackendUnavailable(
                f"cannot {what}: {self.uri} did not answer within {timeout_s:g} s",
                hint="a QEMU that hangs can hold libvirt up; force that guest off, or restart libvirtd",
            )
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]

    def close(self) -> None:
        """End the thread and the connection; waits shortly, never raises."""
        if self.is_abandoned:
            return
        self._jobs.put(None)
        self._thread.join(2.0)
        self.is_abandoned = True

    def _abandon(self, job: _Job) -> None:
        global _stuck
        self.is_abandoned = True
        self._jobs.put(None)
        with _stuck_lock:
            job.is_counted = not job.done.is_set()
            _stuck += job.is_counted

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if self._connection is None:
                    self._connection = self._open()
                with translated(job.what):
                    job.result = job.work(self._connection)
            except BaseException as error:  # the thread's edge: it belongs to the caller
                job.error = error
                if isinstance(error, BackendUnavailable) and not self.lost:
                    self.lost = error.message
            finally:
                _ended(job)
        self._close()

    def _open(self) -> Connection:
        if _stuck >= MAX_STUCK:
            raise BackendUnavailable(
                f"cannot open another connection to {self.uri}: {_stuck} calls to libvirt hang",
                hint="force off the guest whose QEMU hangs, or restart libvirtd",
            )
        module = load()
        with translated(f"connect to {self.uri}"):
            connection = module.open(self.uri)
            connection.registerCloseCallback(self._on_close, None)
        with suppress(module.libvirtError):  # drivers inside this process (test:///) have no wire
            connection.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
        if self._subscribe is not None:
            with translated(f"listen to events of {self.uri}"):
                self._subscriptions = self._subscribe(connection)
        return connection

    def _on_close(self, _connection: Connection, reason: int, _opaque: object) -> None:
        self.lost = {0: "error", 1: "the daemon closed it", 2: "no answer to keepalive", 3: "closed here"}.get(
            reason, "closed"
        )

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # Each callback holds the connection open, and its descriptors with it.
        ends: list[Callable[[], object]] = [connection.unregisterCloseCallback, connection.close]
        ends[:0] = [partial(connection.domainEventDeregisterAny, number) for number in self._subscriptions]
        for end in ends:
            with suppress(load().libvirtError):  # it was gone already
                end()


def _ended(job: _Job) -> None:
    global _stuck
    with _stuck_lock:
        job.done.set()
        _stuck -= job.is_counted


class Pool:
    """Links for commands: each call has one to itself, idle ones are used again."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._idle: list[Link] = []
        self._lock = threading.Lock()

    def call(self, what: str, work: Callable[[Connection], T], timeout_s: float) -> T:
        """As Link.call, on a link that nobody else uses meanwhile."""
        link = self._take()
        try:
            return link.call(what, work, timeout_s)
        finally:
            self._give_back(link)

    def _take(self) -> Link:
        with self._lock:
            while self._idle:
                link = self._idle.pop()
                if link.is_usable:
                    return link
                link.close()
        return Link(self._uri, "command")

    def _give_back(self, link: Link) -> None:
        with self._lock:
            if link.is_usable and len(self._idle) < 4:
                self._idle.append(link)
                return
        link.close()

    def close(self) -> None:
        """Close the idle links."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()
