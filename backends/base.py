"""What a backend promises.

Every backend is a `Backend`. What its technology can do besides is told by the capability protocols: below for
the backend as a whole, in `capabilities` for its guests, in `assets` for images, builds and networks. A capability
that it lacks is absent, never a method that raises. Ask with `isinstance(backend, Limiting)`; `Backend.why_not` says
why a verb is missing for one guest.

All methods block and may be called from several threads, at most `max_parallel` at a time on guests and as many
without a guest (images, networks), besides `guests()` and `sample()`, which have a thread of their own. They raise
only `InnkeeperError`s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from backends.events import Event
from backends.metrics import Sample
from backends.model import (
    Guest,
    GuestKind,
    GuestRef,
)
from backends.trace import Recorder, StepRecord

Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of `inn doctor`."""

    area: str
    """Group: "kernel", "cgroup", "native", "libvirt", "images", "privileges" …"""

    name: str
    """What was looked at."""

    ok: bool | None
    """True works, False does not, None works in part or is only information."""

    found: str
    """What is there, in few words."""

    why: str = ""
    """For what does not work: why, and what the user loses by it."""

    mend: str = ""
    """The command or setting that would mend it; empty if there is none."""


@runtime_checkable
class Backend(Protocol):
    """A source of guests."""

    name: str
    """Registry name, lower case: "native", "libvirt"."""

    title: str
    """For people: "Innkeeper containers", "libvirt qemu:///system"."""

    kinds: frozenset[GuestKind]
    is_simulated: bool
    """True if its guests are made up; every view says so."""

    max_parallel: int
    """How many operations may run at once."""

    def open(self, listener: Listener | None = None) -> None:
        """Connect. Events of the backend's own (GuestsDirty) go to the listener, from any thread.

        Raises BackendUnavailable with a hint when it cannot. May be called again after close().
        """
        ...

    def close(self) -> None:
        """Let go of everything; never raises. Guests go on."""
        ...

    def guests(self) -> list[Guest]:
        """Return all guests, whatever their state. Raises BackendUnavailable."""
        ...

    def sample(self) -> Mapping[GuestRef, Sample]:
        """Read all live guests in one cheap pass; a guest that goes away meanwhile is left out."""
        ...

    def inspect(self, ref: GuestRef) -> Mapping[str, Any]:
        """Return all that is known of a guest, as JSON types. Has `state.exit_code`, `state.oom_kills`."""
        ...

    def trace(self, ref: GuestRef) -> Sequence[StepRecord]:
        """Return the steps done to the guest so far, oldest first."""
        ...

    def why_not(self, verb: str, guest: Guest) -> str | None:
        """Say in one clause why the verb ("pause", "snapshot", "exec") is impossible for this guest, or None.

        For lasting reasons only (kernel, guest's build), not for the state it happens to be in.
        """
        ...

    def check(self) -> Sequence[CheckResult]:
        """Look at the host for `inn doctor`; works without open() and never raises."""
        ...


@runtime_checkable
class Cleaning(Protocol):
    """What a crash left behind can be swept."""

    def clean(self, recorder: Recorder) -> Sequence[str]:
        """Remove what belongs to no live guest (cgroups, links, leases, half-made folders); say what, a line each."""
        ...


@runtime_checkable
class Closing(Protocol):
    """The backend keeps helper processes that can be told to go when nothing needs them."""

    def shutdown(self) -> None:
        """End helpers (the spawner); guests go on."""
        ...


@runtime_checkable
class Demonstrating(Protocol):
    """The backend can show itself: guests with moving figures that are made and removed as a whole.

    All demo guests are labelled `innkeeper.demo` or, where there are no labels, named `demo-…`.
    """

    def demo_create(self, say: Callable[[str], None]) -> Sequence[GuestRef]:
        """Make and start the demo guests; those that are there already are kept. Say each thing that is done.

        May be called when open() failed: what was missing (a daemon) can perhaps be started.
        """
        ...

    def demo_remove(self, say: Callable[[str], None]) -> None:
        """Remove all that demo_create made, here or in an earlier run, helpers and images included."""
        ...
