"""The core that command line and screen share: backends, their guests, their figures, and what is done to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar

from app.core.asking import join_all, within
from app.core.bus import Bus
from app.core.dispatch import Dispatcher
from app.core.figures import Figures
from app.core.fleet import Fleet
from app.core.link import BackendStatus
from app.core.operations import Operation, OperationLog
from app.core.sampler import Sampler
from app.core.settings import MIN_INTERVAL_S, Settings
from backends import registry
from backends.base import Backend
from backends.errors import BackendUnavailable, InnkeeperError, TimedOut, UsageError
from backends.events import Event
from backends.metrics import History, Rates, Sample
from backends.model import Guest, GuestRef

__all__ = ["BackendStatus", "Workstation"]

Answer = TypeVar("Answer")


class Workstation:
    """Owns every thread of the program but the front end's own.

    With sampling all backends are opened at once, each in its own thread, and sampled until close(). Without, nothing
    is opened before it is needed: refresh() and find() ask for lists, backend() and submit() for one backend.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        backends: Sequence[Backend] | None = None,
        sampling: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        if backends is None:
            registry.prepare(
                settings.backends, registry.BackendConfig(settings.paths.state_dir, settings.paths.run_dir)
            )
        self._clock, self._interval_s, self._is_sampling = clock, settings.interval_s, sampling
        self._lock = threading.Lock()
        self._samplers: dict[str, Sampler] = {}
        self._broken: dict[str, BackendUnavailable] = {}
        self._given = None if backends is None else {backend.name: backend for backend in backends}
        self._names = settings.backends if self._given is None else tuple(self._given)
        self._bus = Bus()
        self._log = OperationLog()
        self._figures = Figures(settings.history_length)
        self.fleet = Fleet(self._log.pending, self._unread)
        self._dispatcher = Dispatcher(
            log=self._log, bus=self._bus, fleet=self.fleet, opened=self._opened, done=self._operation_done
        )
        self._own_cpu = (clock(), time.process_time())
        self._leaving = threading.Event()
        self._watch: threading.Thread | None = None
        if sampling:
            self._start_sampling()

    def __enter__(self) -> Workstation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Backends

    def backend(self, name: str) -> Backend:
        """Return an open backend. Raises BackendUnavailable when it is not up.

        Without sampling it is opened now if need be, which blocks; with sampling this returns at once.
        """
        sampler = self._sampler(name)
        if not sampler.link.is_open and not self._is_sampling:
            sampler.connect(self.settings.pace.open_timeout_s)
        return self._if_open(sampler)

    def ask(self, what: str, name: str, question: Callable[[Backend], Answer]) -> Answer:
        """Return what a backend answers, opening it if need be. For reading only; `what` stands in the error.

        Raises TimedOut when it hangs, BackendUnavailable, and whatever the backend raises.
        """
        backend, patience_s = self.backend(name), self.settings.pace.answer_within_s
        late = TimedOut(f"cannot {what}: {backend.title}: no answer for {patience_s:g} s")
        return within(patience_s, late, lambda: question(backend))

    def statuses(self) -> tuple[BackendStatus, ...]:
        """Return how it stands with every backend, in the order of the settings."""
        return tuple(self._status(name) for name in self._names)

    def refresh(self, *, timeout_s: float = 3.0) -> None:
        """Read all lists of guests now, in parallel; what does not answer in time is left as it was."""
        self._read(self._names, timeout_s)

    def find(self, text: str, *, timeout_s: float = 3.0) -> Guest:
        """Read the lists that matter and resolve a user's word: for "backend/name" only that backend is asked.

        Raises NotFound, AmbiguousName.
        """
        head, slash, _ = text.partition("/")
        self._read((head,) if slash and head in self._names else self._names, timeout_s)
        return self.fleet.resolve(text)

    def set_interval(self, seconds: float) -> None:
        """Sample at another rhythm from now on."""
        self._interval_s = max(MIN_INTERVAL_S, seconds)
        for sampler in self._made():
            sampler.set_interval(self._interval_s)

    @property
    def interval_s(self) -> float:
        """Seconds between two samples."""
        return self._interval_s

    # Figures and events

    def history(self, ref: GuestRef) -> History:
        """Return the guest's rates so far."""
        return self._figures.history(ref)

    def latest(self, ref: GuestRef) -> Rates | None:
        """Return the guest's newest rates; None if it is not live."""
        return self._figures.latest(ref)

    def last_sample(self, ref: GuestRef) -> Sample | None:
        """Return the guest's newest counters; None if it is not live."""
        return self._figures.last_sample(ref)

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call the listener with each event, on core threads, several at a time; return what ends it.

        It must not block. One that raises is noted in faults() and goes on being called.
        """
        return self._bus.subscribe(listener)

    def faults(self) -> tuple[str, ...]:
        """Return the last unexpected exceptions of listeners and backends, a line each."""
        return self._bus.faults()

    def own_cpu_pct(self) -> float | None:
        """Return the CPU use of this process since the last call; 100 is one core. None if that was just now."""
        now = (self._clock(), time.process_time())
        (before_s, before_cpu_s), self._own_cpu = self._own_cpu, now
        elapsed_s = now[0] - before_s
        return (now[1] - before_cpu_s) / elapsed_s * 100 if elapsed_s > 0 else None

    # Operations

    def submit(
        self, command: str, ref: GuestRef | None = None, *, group: object = None, **arguments: object
    ) -> Operation:
        """Begin a command of COMMANDS and return at once; how it ends is in the operation.

        One without a guest (guest.create, image.import …) goes to the argument `backend`, by default the first one.
        Changes of limits that are given with one and the same `group` (any object) are one change: limit.undo and
        limit.redo without a guest then take all of them back, or make all again, each as an operation of its own.
        Raises UsageError for a command or backend that does not exist.
        """
        if command in ("limit.undo", "limit.redo"):
            return self._dispatcher.submit_again(command, ref, self._max_parallel)
        chosen = arguments.pop("backend", None) if ref is None else ref.backend
        name = str(chosen or self._names[0])
        if name not in self._names:
            raise UsageError(f"there is no backend {name!r}", hint="here are: " + ", ".join(self._names))
        return self._dispatcher.submit(command, ref, name, self._max_parallel(name), arguments, group)

    def operations(self) -> tuple[Operation, ...]:
        """Return what runs and the last that ended, newest last."""
        return self._log.all()

    def running_operations(self) -> tuple[Operation, ...]:
        """Return what has been asked for and has not ended, newest last."""
        return self._log.running()

    # The end

    def close(self) -> tuple[str, ...]:
        """Stop every thread and close every backend; return the names of threads that did not stop in time.

        Those are daemon threads: they end with the process.
        """
        self._leaving.set()
        self._dispatcher.stop()
        patience_s = self.settings.pace.stop_within_s
        deadline_s = time.monotonic() + patience_s
        # Operations use the backend: they get the first half of the time before it is closed.
        join_all(self._dispatcher.threads(), deadline_s - patience_s / 2)
        for sampler in self._made():
            sampler.stop()
        threads = [sampler.thread for sampler in self._made() if sampler.thread is not None]
        threads += self._dispatcher.threads() + ([self._watch] if self._watch is not None else [])
        return join_all(threads, deadline_s)

    # Inside

    def _start_sampling(self) -> None:
        for name in self._names:
            try:
                self._sampler(name).start_sampling()
            except BackendUnavailable:
                continue  # its status says why
        self._watch = threading.Thread(target=self._watch_ages, name="innkeeper watch", daemon=True)
        self._watch.start()

    def _watch_ages(self) -> None:
        while not self._leaving.wait(min(1.0, self._interval_s)):
            for sampler in self._made():
                sampler.look()

    def _made(self) -> list[Sampler]:
        with self._lock:
            return list(self._samplers.values())

    def _sampler(self, name: str) -> Sampler:
        """Return the sampler of a backend, making both on first need. Raises BackendUnavailable."""
        with self._lock:
            if name not in self._samplers:
                if name not in self._names:
                    known = ", ".join(self._names)
                    raise BackendUnavailable(f"there is no backend {name!r}", hint=f"here are: {known}")
                if name in self._broken:
                    raise self._broken[name]
                self._samplers[name] = Sampler(
                    self._make(name),
                    bus=self._bus,
                    fleet=self.fleet,
                    figures=self._figures,
                    pace=self.settings.pace,
                    interval_s=self._interval_s,
                    clock=self._clock,
                )
            return self._samplers[name]

    def _make(self, name: str) -> Backend:
        if self._given is not None:
            return self._given[name]
        paths = self.settings.paths
        config = registry.BackendConfig(paths.state_dir, paths.run_dir, self.settings.options_for(name))
        try:
            return registry.make(name, config)
        except InnkeeperError as error:
            self._broken[name] = BackendUnavailable(error.message, hint=error.hint)
        except Exception:  # another package's backend that breaks when it is loaded must not take the others along
            self._broken[name] = BackendUnavailable(self._bus.fault(f"loading the backend {name}"))
        raise self._broken[name]

    def _status(self, name: str) -> BackendStatus:
        try:
            return self._sampler(name).status()
        except BackendUnavailable as error:
            return BackendStatus(name, name, "off", None, error, is_simulated=False, guests=0, sample_cost_s=None)

    def _unread(self) -> dict[str, str]:
        down = [status for status in self.statuses() if status.state != "up"]
        return {status.name: status.error.message if status.error else "it does not answer" for status in down}

    def _read(self, names: Sequence[str], timeout_s: float) -> None:
        tickets: list[tuple[Sampler, int]] = []
        for name in names:
            try:
                sampler = self._sampler(name)
            except BackendUnavailable:
                continue  # its status says why
            tickets.append((sampler, sampler.request()))
        deadline_s = time.monotonic() + timeout_s
        for sampler, ticket in tickets:
            sampler.wait(ticket, max(0.0, deadline_s - time.monotonic()))

    def _if_open(self, sampler: Sampler) -> Backend:
        if sampler.link.is_open:
            return sampler.backend
        title, error = sampler.backend.title, sampler.link.error
        if error is None:
            raise BackendUnavailable(f"{title} does not answer")
        raise BackendUnavailable(error.message, hint=error.hint) from error

    def _opened(self, name: str) -> Backend:
        sampler = self._sampler(name)
        if not sampler.link.is_open and not (self._is_sampling and sampler.link.has_failed):
            sampler.connect(self.settings.pace.open_timeout_s)
        return self._if_open(sampler)

    def _max_parallel(self, name: str) -> int:
        try:
            return self._sampler(name).backend.max_parallel
        except BackendUnavailable:
            return 1  # the operation will fail with the reason

    def _operation_done(self, operation: Operation) -> None:
        """Make the operation's effect visible before its end is told: listeners then see the new state."""
        sampler = self._sampler(operation.backend)
        if self._is_sampling:
            sampler.wait(sampler.request(), min(0.5, self._interval_s))
        elif isinstance(operation.result, Guest):
            self._bus.publish_all(self.fleet.put(operation.result))
