"""What happened, told by backends and by the core to whoever listens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from backends.errors import InnkeeperError
from backends.metrics import Rates, Sample
from backends.model import Guest, GuestRef
from backends.trace import Progress, StepRecord


class Event:
    """Base of all events."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class GuestAdded(Event):
    """A guest appeared, whoever made it."""

    guest: Guest


@dataclass(frozen=True, slots=True)
class GuestChanged(Event):
    """A guest's state, name or limits changed, whoever changed them."""

    guest: Guest
    before: Guest


@dataclass(frozen=True, slots=True)
class GuestGone(Event):
    """A guest no longer exists."""

    ref: GuestRef


@dataclass(frozen=True, slots=True)
class Sampled(Event):
    """One pass over a backend's guests is in the history."""

    backend: str
    time_s: float
    """Monotonic."""

    samples: Mapping[GuestRef, Sample]
    rates: Mapping[GuestRef, Rates]
    cost_s: float
    """CPU time of the pass in this process."""


@dataclass(frozen=True, slots=True)
class BackendLost(Event):
    """A backend does not answer or went away; its guests are as they were last seen."""

    backend: str
    error: InnkeeperError


@dataclass(frozen=True, slots=True)
class BackendBack(Event):
    """A backend answers (again)."""

    backend: str


@dataclass(frozen=True, slots=True)
class GuestsDirty(Event):
    """From a backend to the core: read your list of guests again now, do not wait for the next pass."""

    backend: str


@dataclass(frozen=True, slots=True)
class GuestEvent:
    """Something that happened to a guest, as it is on record: a line of `inn events`."""

    time_s: float
    """Seconds since the epoch."""

    ref: GuestRef
    name: str
    """As it was called then."""

    action: str
    """"create", "start", "die", "oom", "stop", "kill", "restart", "pause", "unpause", "health_status", "update",
    "rename", "remove" …"""

    attributes: Mapping[str, str] = field(default_factory=dict)
    """More of it: exit_code, signal, health …"""


@dataclass(frozen=True, slots=True)
class OperationStarted(Event):
    """A command began on a guest."""

    operation_id: int
    command: str
    ref: GuestRef | None


@dataclass(frozen=True, slots=True)
class StepDone(Event):
    """One step of an operation ran."""

    operation_id: int
    record: StepRecord


@dataclass(frozen=True, slots=True)
class Progressed(Event):
    """A part of an operation is further; told a few times a second at most, and always when a part is done."""

    operation_id: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class Said(Event):
    """An operation printed a line (a build's step)."""

    operation_id: int
    line: str


@dataclass(frozen=True, slots=True)
class OperationEnded(Event):
    """A command ended; error is None if it worked."""

    operation_id: int
    command: str
    ref: GuestRef | None
    error: InnkeeperError | None
    result: object = None
