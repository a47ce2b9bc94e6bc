"""The table of commands: complete, consistent, and honest about what does not apply."""

from __future__ import annotations

import signal

import pytest

from app.core.commands import COMMANDS, parse_signal
from backends.errors import UsageError
from backends.model import Guest, GuestKind, GuestRef, GuestState
from backends.simulated.backend import SimulatedBackend
from backends.trace import Recorder


def guest(state: GuestState) -> Guest:
    return Guest(GuestRef("simulated", "1"), "web", GuestKind.CONTAINER, state)


def test_names_and_verbs_are_unique_and_every_command_has_a_sentence() -> None:
    assert [command.name for command in COMMANDS.values()] == list(COMMANDS)
    assert len({command.verb for command in COMMANDS.values()}) == len(COMMANDS)
    for command in COMMANDS.values():
        assert command.help[0].isupper()
        assert command.help.endswith(".")


def test_a_key_is_shared_only_by_commands_that_never_apply_together() -> None:
    taken: dict[tuple[str, str], list[frozenset[GuestState]]] = {}
    for command in COMMANDS.values():
        view = "guests" if command.needs_guest or command.noun == "guest" else command.noun
        for view_of in {view, command.noun} - {"guest"}:  # what is done to guests is a key of another view, too
            for key in filter(None, command.key.split(",")):
                states = command.states or frozenset(GuestState)
                assert all(states.isdisjoint(others) for others in taken.get((view_of, key), []))
                taken.setdefault((view_of, key), []).append(states)


def test_what_destroys_is_on_no_unshifted_letter_but_restart_which_asks() -> None:
    keys = {command.key for command in COMMANDS.values() if command.destructive and command.key}

    assert keys == {"X", "r", "D,delete"}


@pytest.mark.parametrize("state", list(GuestState))
def test_start_and_stop_apply_by_state_and_say_why_not(state: GuestState) -> None:
    backend = SimulatedBackend(guests=1)
    startable = {GuestState.CREATED, GuestState.STOPPED, GuestState.LOST, GuestState.RESTARTING}

    why_not_start = COMMANDS["guest.start"].why_not(backend, guest(state))
    why_not_stop = COMMANDS["guest.stop"].why_not(backend, guest(state))

    assert (why_not_start is None) == (state in startable)
    assert (why_not_stop is None) == (state in {GuestState.RUNNING, GuestState.PAUSED, GuestState.RESTARTING})
    assert why_not_start is None or why_not_start.startswith(f"it is {state}, not")


class Bare:
    """A backend without any capability."""

    title = "bare guests"

    def why_not(self, verb: str, guest: Guest) -> str | None:
        return None


def test_a_capability_that_is_absent_is_the_reason() -> None:
    for command in COMMANDS.values():
        why = command.why_not(Bare(), guest(GuestState.RUNNING))  # type: ignore[arg-type]
        assert why == f"bare guests cannot {command.verb}"


def test_the_backend_is_asked_by_the_family_of_the_verb() -> None:
    assert {COMMANDS[name].family for name in ("snapshot.create", "snapshot.restore")} == {"snapshot"}
    assert [COMMANDS[name].family for name in ("guest.remove", "guest.limit", "limit.undo")] == [
        "remove", "limit", "limit",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text, number", [("9", 9), ("KILL", 9), ("sigterm", 15), ("RTMIN+3", signal.SIGRTMIN + 3), ("RTMAX-1", 63)]
)
def test_signals_are_read_by_name_and_number(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "-9", "SIGNAL", "RTMIN+99", "²"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no signal"):
        parse_signal(text)


def test_kill_takes_a_signal_by_name_as_by_number() -> None:
    for given in ("TERM", "15", 15, signal.SIGTERM):
        backend = SimulatedBackend(guests=1)
        backend.open()
        ref = backend.guests()[0].ref

        COMMANDS["guest.kill"].run(backend, ref, Recorder("test"), signal=given)

        assert backend.guests()[0].exit_code == 143
