"""The one thread that opens a backend, reads its guests and samples them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from app.core.bus import Bus
from app.core.figures import Figures
from app.core.fleet import Fleet
from app.core.link import BackendStatus, Link
from app.core.settings import Pace
from backends.base import Backend
from backends.errors import BackendUnavailable, InnkeeperError, os_error_text
from backends.events import BackendBack, BackendLost, Event, GuestGone, GuestsDirty, Sampled


class Sampler:
    """Owns one backend's connection and all bulk reading of it.

    Nothing runs before the first connect(), request() or start_sampling(). All calls that can block are made on its
    thread: a backend that hangs holds up this thread and nobody else. A list asked for with request() is read next,
    also when that means an attempt to open; wait() tells when. Without sampling the list is read only when asked for.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        bus: Bus,
        fleet: Fleet,
        figures: Figures,
        pace: Pace,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.backend = backend
        self.link = Link(backend.title, pace, clock)
        self.thread: threading.Thread | None = None
        self._bus, self._fleet, self._figures = bus, fleet, figures
        self._pace, self._interval_s, self._clock = pace, interval_s, clock
        self._changed = threading.Condition()
        self._wanted = self._served = self._attempts = 0
        self._must_open = False
        self._is_dirty = self._is_stopping = self._is_sampling = False
        self._next_sample_s = 0.0
        self._passes = 0
        self._list_began_s = float("-inf")
        self._list_took_s = float("inf")
        self._cost_s: float | None = None

    # What other threads call; none of it blocks but wait().

    def start_sampling(self) -> None:
        """Open the backend and sample it from now on."""
        with self._changed:
            self._is_sampling = True
            self._ensure_thread()

    def request(self) -> int:
        """Ask for a reading of the list, opening the backend if need be; return a ticket for wait()."""
        with self._changed:
            self._wanted += 1
            self._ensure_thread()
            self._changed.notify_all()
            return self._wanted

    def connect(self, timeout_s: float) -> None:
        """Wait until the backend is open, or one attempt to open it failed, or time is up; see link."""
        with self._changed:
            before = self._attempts
            if not self.link.is_open:
                self._must_open = True
                self._ensure_thread()
                self._changed.notify_all()
            self._changed.wait_for(lambda: self.link.is_open or self._attempts > before or self._is_stopping, timeout_s)

    def wait(self, ticket: int, timeout_s: float) -> bool:
        """Return True once the reading that was asked for was made or failed; False if it takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._served >= ticket or self._is_stopping, timeout_s)

    def set_interval(self, seconds: float) -> None:
        """Sample at another rhythm from now on."""
        with self._changed:
            self._interval_s = seconds
            self._next_sample_s = min(self._next_sample_s, self._clock() + seconds)
            self._changed.notify_all()

    def stop(self) -> None:
        """Let the thread close the backend and end. Does not wait."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()

    def status(self) -> BackendStatus:
        """Return how it stands with the backend."""
        backend, link = self.backend, self.link
        return BackendStatus(
            name=backend.name,
            title=backend.title,
            state=link.state(self._interval_s, sampling=self._is_sampling),
            age_s=link.age_s(),
            error=link.error,
            is_simulated=backend.is_simulated,
            guests=sum(1 for guest in self._fleet.guests() if guest.ref.backend == backend.name),
            sample_cost_s=self._cost_s,
        )

    def look(self) -> None:
        """Tell listeners if the backend has been silent for too long; called now and then by the Workstation."""
        error = self.link.overdue(self._interval_s, sampling=self._is_sampling)
        if error is not None:
            self._bus.publish(BackendLost(self.backend.name, error))

    def _ensure_thread(self) -> None:
        if self.thread is None and not self._is_stopping:
            self.thread = threading.Thread(target=self._loop, name=f"innkeeper {self.backend.name}", daemon=True)
            self.thread.start()

    def _heard(self, event: Event) -> None:
        """Take an event from the backend, on whatever thread it comes."""
        if not isinstance(event, GuestsDirty):
            self._bus.publish(event)
            return
        with self._changed:
            self._is_dirty = True
            self._changed.notify_all()

    # What the thread does.

    def _loop(self) -> None:
        try:
            while not self._is_stopping:
                ticket = self._wanted
                self._turn(ticket)
                self._serve(ticket)
                with self._changed:
                    while not self._is_awake():
                        self._changed.wait(self._sleep_s())  # anew each time: what is due can have come nearer
        finally:
            self.link.is_open = False
            self._close()

    def _serve(self, ticket: int) -> None:
        with self._changed:
            self._served = max(self._served, ticket)
            self._changed.notify_all()

    def _turn(self, ticket: int) -> None:
        """Do what is due: open, list, sample. A failure is noted and told, and ends the turn."""
        is_asked = ticket > self._served
        try:
            if not self.link.is_open and not self._open(is_asked=is_asked):
                return
            is_due = self._is_sampling and self._clock() >= self._next_sample_s
            if is_asked or self._is_list_due(is_due):
                self._read_list()
                self._serve(ticket)
            if is_due and not self._is_stopping:
                self._read_sample()
        except BackendUnavailable as error:
            self._lose(error)
        except InnkeeperError as error:
            self._stumble(error)
        except OSError as error:  # what the backend should have translated
            self._bus.fault(f"reading {self.backend.name}")
            self._stumble(InnkeeperError(f"cannot read {self.backend.title}: {os_error_text(error)}"))
        except Exception as error:  # the thread must live on; what went wrong is kept and shown
            wrapped = InnkeeperError(self._bus.fault(f"reading {self.backend.name}"))
            wrapped.__cause__ = error
            self._stumble(wrapped)

    def _open(self, *, is_asked: bool) -> bool:
        if not (is_asked or self._must_open or (self._is_sampling and self._clock() >= self.link.retry_at_s)):
            return False
        self._must_open = False
        self.link.calling()
        try:
            self.backend.open(self._heard)
        except BackendUnavailable:
            raise
        except InnkeeperError as error:
            raise BackendUnavailable(error.message, hint=error.hint) from error
        except Exception as error:  # a backend that breaks while it opens is off, and says why
            raise BackendUnavailable(self._bus.fault(f"opening {self.backend.name}")) from error
        self.link.opened()
        self._is_dirty, self._passes, self._next_sample_s = True, 0, self._clock()
        self._attempted()
        return True

    def _attempted(self) -> None:
        with self._changed:
            self._attempts += 1
            self._changed.notify_all()

    def _lose(self, error: BackendUnavailable) -> None:
        is_news = self.link.failed(error)
        self._attempted()
        self._close()
        if is_news:
            self._bus.publish(BackendLost(self.backend.name, error))

    def _close(self) -> None:
        try:
            self.backend.close()
        except Exception:  # it promised not to; the thread must live on
            self._bus.fault(f"closing {self.backend.name}")

    def _stumble(self, error: InnkeeperError) -> None:
        self.link.stumbled(error)
        self._plan_next()
        if self.link.state(self._interval_s, sampling=self._is_sampling) == "lost":
            self._lose(BackendUnavailable(error.message, hint=error.hint))

    def _is_list_due(self, is_sample_due: bool) -> bool:
        if not self._is_sampling:
            return False
        since_s = self._clock() - self._list_began_s
        if self._is_dirty:
            return since_s >= self._pace.dirty_gap_s
        return since_s >= self._pace.list_every_s or (is_sample_due and self._list_took_s < self._pace.quick_list_s)

    def _read_list(self) -> None:
        self._is_dirty = False  # before the reading: what becomes dirty meanwhile is read again
        self._list_began_s = self._clock()
        self.link.calling()
        listed = self.backend.guests()
        self._list_took_s = self._clock() - self._list_began_s
        events = self._fleet.update(self.backend.name, listed)
        for event in events:
            if isinstance(event, GuestGone):
                self._figures.forget(event.ref)
        is_news = self.link.answered()
        if is_news:
            self._bus.publish(BackendBack(self.backend.name))
        self._bus.publish_all(events)

    def _read_sample(self) -> None:
        self.link.calling()
        began_s = time.thread_time()
        read = self.backend.sample()
        samples = {ref: sample for ref, sample in read.items() if self._fleet.get(ref) is not None}
        if len(samples) < len(read):
            self._is_dirty = True  # it has guests that we have not seen yet
        derived = self._figures.take(self.backend.name, samples)
        self._cost_s = time.thread_time() - began_s
        is_news = self.link.answered()
        self._passes += 1
        self._plan_next()
        if is_news:
            self._bus.publish(BackendBack(self.backend.name))
        self._bus.publish(Sampled(self.backend.name, self._clock(), samples, derived, self._cost_s))

    def _plan_next(self) -> None:
        """Choose the time of the next pass; passes whose time has gone by are left out."""
        now_s = self._clock()
        if self._passes == 1:
            self._next_sample_s = now_s + min(self._pace.early_s, self._interval_s)
            return
        missed = max(0, int((now_s - self._next_sample_s) // self._interval_s))
        self._next_sample_s += (missed + 1) * self._interval_s

    def _is_awake(self) -> bool:
        if self._is_stopping or self._wanted > self._served or (self._must_open and not self.link.is_open):
            return True
        return self._sleep_s() == 0.0

    def _sleep_s(self) -> float | None:
        """Return how long there is nothing to do; None: until somebody asks."""
        if not self._is_sampling:
            return None
        if not self.link.is_open:
            due_s = self.link.retry_at_s
        else:
            gap_s = self._pace.dirty_gap_s if self._is_dirty else self._pace.list_every_s
            due_s = min(self._next_sample_s, self._list_began_s + gap_s)
        return max(0.0, due_s - self._clock())
