"""What all parts of the simulated backend stand on: opening, reading, and how a verb is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from backends.base import CheckResult, Listener
from backends.errors import BackendUnavailable, WrongState
from backends.events import GuestsDirty
from backends.metrics import Sample
from backends.model import Guest, GuestKind, GuestRef, GuestState
from backends.simulated.act import Act
from backends.simulated.faults import Faults
from backends.simulated.machine import Machine
from backends.simulated.world import World
from backends.trace import Recorder, StepRecord

NAME = "simulated"


class SimulatedCore:
    """The Backend protocol over a world in memory."""

    name: str
    title: str
    kinds = frozenset(GuestKind)
    is_simulated = True
    max_parallel = 4

    def __init__(
        self,
        *,
        guests: int = 40,
        seed: int = 1,
        hostile: bool = False,
        verb_s: float = 0.0,
        bytes_per_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        epoch_s: float | None = None,
        name: str = NAME,
        title: str = "simulated guests",
    ) -> None:
        """A third of the guests are VMs. Each verb takes `verb_s`. `epoch_s`: time of day when the clock said 0.

        Pulls, pushes and builds move so many `bytes_per_s`; with 0 they are done at once.
        """
        self.name, self.title = name, title
        self.faults = Faults()
        self._verb_s, self._bytes_per_s = verb_s, bytes_per_s
        self._listener: Listener | None = None
        self._is_open = False
        self._world = World(name, seed, clock, time.time() - clock() if epoch_s is None else epoch_s)
        self._world.populate(guests - guests // 3, guests // 3, hostile=hostile)

    def open(self, listener: Listener | None = None) -> None:
        """Begin to answer."""
        self.faults.enter("open")
        self._listener, self._is_open = listener, True

    def close(self) -> None:
        """Answer no more; the guests stay as they are."""
        self.faults.calls["close"] += 1
        self._is_open, self._listener = False, None

    def guests(self) -> list[Guest]:
        """Return all guests."""
        with self._call("guests"):
            return [machine.guest() for machine in self._world.machines.values()]

    def sample(self) -> Mapping[GuestRef, Sample]:
        """Return the counters of live guests."""
        with self._call("sample"):
            now = self._world.now()
            read = ((ref, machine.sample(now)) for ref, machine in self._world.machines.items())
            return {ref: sample for ref, sample in read if sample is not None}

    def inspect(self, ref: GuestRef) -> Mapping[str, Any]:
        """Return all that is known of a guest."""
        with self._call("inspect"):
            return self._world.get(ref).inspect()

    def trace(self, ref: GuestRef) -> Sequence[StepRecord]:
        """Return what was done to a guest."""
        with self._call("trace"):
            return tuple(self._world.get(ref).records)

    def why_not(self, verb: str, guest: Guest) -> str | None:
        """Say what simulated guests can never do."""
        if verb in ("exec", "console", "attach"):
            return "a simulated guest runs no programs"
        if verb in ("commit", "connect", "disconnect", "network") and guest.kind is GuestKind.VM:
            return "a virtual machine is made from no image and has its interfaces defined"
        return None

    def check(self) -> Sequence[CheckResult]:
        """Say that nothing here is real."""
        return [CheckResult("simulated", "guests", None, "in memory", why="none of them is real")]

    # For the verbs

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        self.faults.enter(name)
        if not self._is_open:
            raise BackendUnavailable("the simulated backend is closed")
        with self._world.changed:
            yield

    @contextmanager
    def _verb(self, name: str, ref: GuestRef, states: frozenset[GuestState] | None = None) -> Iterator[Machine]:
        if self._verb_s:
            time.sleep(self._verb_s)  # what a real verb would take
        try:
            with self._call(name):
                machine = self._world.get(ref)
                if states is not None and machine.state not in states:
                    raise WrongState(f"cannot {name} {machine.name}: it is {machine.state}")
                machine.advance(self._world.now())
                yield machine
                machine.changed()
                self._world.changed.notify_all()
        finally:
            self._tell()

    def _do(self, machine: Machine, recorder: Recorder, kind: str, text: str, do: Callable[[], object]) -> Any:
        try:
            return recorder.run(Act(kind, text, do))
        finally:
            machine.records.append(recorder.records[-1])

    def _tell(self) -> None:
        listener = self._listener
        if listener is not None:
            listener(GuestsDirty(self.name))
