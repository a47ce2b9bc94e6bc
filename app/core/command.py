"""What a command is: the one declaration that parser, bindings, palette and help are made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from backends.base import Backend
from backends.errors import Unsupported, UsageError
from backends.model import Guest, GuestRef, GuestState
from backends.trace import Recorder


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command."""

    name: str
    """Keyword for Workstation.submit and Command.run."""

    type: Callable[[str], object]
    """Text to value; raises UsageError."""

    help: str
    required: bool = False
    default: object = None
    option: str = ""
    """"--timeout" where the command line takes it as an option; empty where it is a word of its own."""


@dataclass(frozen=True, slots=True)
class Command:
    """One thing a user can do."""

    name: str
    """"guest.stop"."""

    verb: str
    """"stop", "snapshot create": as on the command line."""

    title: str
    """"Stop": for footer, palette and buttons."""

    help: str
    """One sentence."""

    key: str
    """Default key in Textual's words, alternatives after a comma; empty if it has none."""

    capability: type[Any]
    """Protocol (of backends.base, capabilities or assets) that the backend must have."""

    action: Callable[..., object]
    """Called with backend, ref (unless needs_guest is False), recorder and the arguments."""

    destructive: bool = False
    states: frozenset[GuestState] | None = None
    """States of the guest in which it makes sense; None: all."""

    arguments: tuple[Argument, ...] = ()
    needs_guest: bool = True
    takes_limits: bool = False
    """True if every field of Limits is an argument too."""

    @property
    def noun(self) -> str:
        """What it is done to: "guest", "image", "network" …"""
        return self.name.partition(".")[0]

    @property
    def family(self) -> str:
        """The word that Backend.why_not knows it by: "stop", "remove", "limit", "snapshot"."""
        noun, _, act = self.name.partition(".")
        return act if noun == "guest" else noun

    def why_not(self, backend: Backend, guest: Guest | None) -> str | None:
        """Say in one clause why it does not apply now; None if it does."""
        why = self.why_never(backend, guest)
        if why is None and guest is not None and self.states is not None and guest.state not in self.states:
            states = " or ".join(state.value for state in GuestState if state in self.states)
            return f"it is {guest.state}, not {states}"
        return why

    def why_never(self, backend: Backend, guest: Guest | None) -> str | None:
        """Say why it does not apply to this guest in any state; None if it may."""
        if not isinstance(backend, self.capability):
            return f"{backend.title} cannot {self.verb}"
        return backend.why_not(self.family, guest) if guest is not None else None

    def run(self, backend: Backend, ref: GuestRef | None, recorder: Recorder, **arguments: object) -> object:
        """Do it, blocking. Raises InnkeeperErrors."""
        if not isinstance(backend, self.capability):
            raise Unsupported(f"cannot {self.verb}: {backend.title} has no such thing")
        checked = self.check(arguments)
        if not self.needs_guest:
            return self.action(backend, recorder, **checked)
        if ref is None:
            raise UsageError(f"{self.verb}: which guest?")
        return self.action(backend, ref, recorder, **checked)

    def check(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """Return the arguments with defaults filled in. Raises UsageError for unknown and missing ones."""
        known = {argument.name for argument in self.arguments} | self._limit_names()
        for name in arguments:
            if name not in known:
                raise UsageError(f"{self.verb} has no argument {name!r}", hint="it has: " + ", ".join(sorted(known)))
        for argument in self.arguments:
            if argument.required and arguments.get(argument.name) is None:
                raise UsageError(f"{self.verb} needs an argument: {argument.name}")
        return {argument.name: argument.default for argument in self.arguments} | dict(arguments)

    def _limit_names(self) -> set[str]:
        from backends.model import Limits

        return set(Limits.__dataclass_fields__) if self.takes_limits else set()
