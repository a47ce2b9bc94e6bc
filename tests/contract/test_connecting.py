"""Opening, closing, and what is told without being open."""

from __future__ import annotations

from app.core.commands import COMMANDS
from backends.base import Backend, CheckResult
from tests.contract.conftest import Subject


def test_it_is_a_backend_with_a_name_and_a_title(subject: Subject) -> None:
    backend = subject.backend

    assert isinstance(backend, Backend)
    assert backend.name == backend.name.lower()
    assert backend.title
    assert backend.max_parallel >= 1
    assert backend.kinds


def test_closing_twice_is_harmless_and_it_can_be_opened_again(subject: Subject) -> None:
    guest = subject.live()

    subject.backend.close()
    subject.backend.close()
    subject.backend.open()

    assert subject.look(guest.ref).state is guest.state
    assert subject.sample(guest.ref).time_s > 0


def test_the_doctor_can_ask_it_also_when_it_is_closed(subject: Subject) -> None:
    subject.backend.close()

    results = subject.backend.check()
    subject.backend.open()

    assert results
    assert all(type(result) is CheckResult for result in results)
    assert all(result.name and result.area for result in results)
    assert all(result.why for result in results if result.ok is False)


def test_for_every_command_it_says_nothing_or_why_not(subject: Subject) -> None:
    for guest in (subject.guest(), subject.live()):
        for verb in {command.family for command in COMMANDS.values()} | {"exec", "console", "logs", "processes"}:
            why = subject.backend.why_not(verb, guest)
            assert why is None or (len(why) > 0 and "\n" not in why and not why.endswith("."))
