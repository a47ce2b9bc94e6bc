"""How a user's word finds a guest."""

from __future__ import annotations

import pytest

from app.core.fleet import Fleet
from backends.errors import AmbiguousName, NotFound
from backends.events import GuestAdded, GuestChanged, GuestGone
from backends.model import Guest, GuestKind, GuestRef, GuestState
from backends.simulated.backend import SimulatedBackend
from tests.unit.core.conftest import Open


def guest(name: str, id: str, backend: str = "native", state: GuestState = GuestState.RUNNING) -> Guest:
    return Guest(GuestRef(backend, id), name, GuestKind.CONTAINER, state)


WEB, DB = guest("web", "abcd1234"), guest("db", "abcd5678")
VM_WEB = guest("web", "1111-2222", "libvirt")


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet(unread=lambda: {"docker": "no such daemon"})
    fleet.update("native", [WEB, DB])
    fleet.update("libvirt", [VM_WEB])
    return fleet


@pytest.mark.parametrize(
    "text, found",
    [
        ("db", DB), ("native/web", WEB), ("libvirt/web", VM_WEB), ("abcd1234", WEB), ("abcd1", WEB),
        ("native/abcd1234", WEB), ("1111", VM_WEB),
    ],
)  # fmt: skip
def test_a_guest_is_found_by_name_backend_and_id(fleet: Fleet, text: str, found: Guest) -> None:
    assert fleet.resolve(text) is found


@pytest.mark.parametrize("text", ["web", "abcd"])
def test_a_word_that_fits_several_guests_is_refused_with_the_ways_to_say_it(fleet: Fleet, text: str) -> None:
    with pytest.raises(AmbiguousName) as caught:
        fleet.resolve(text)

    for name in caught.value.hint.removeprefix("say which: ").split(", "):
        assert fleet.resolve(name).name == "web" or text == "abcd"


@pytest.mark.parametrize("text", ["", "abc", "we", "native/", "/web", "docker/web"])
def test_an_unknown_word_is_not_found_and_the_hint_says_who_could_not_be_asked(fleet: Fleet, text: str) -> None:
    with pytest.raises(NotFound) as caught:
        fleet.resolve(text)

    assert "docker could not be asked: no such daemon" in caught.value.hint


def test_an_exact_name_wins_over_the_id_of_another_guest(fleet: Fleet) -> None:
    named = guest("abcd1234", "ffff0000")
    fleet.update("native", [WEB, named])

    assert fleet.resolve("abcd1234") is named


def test_only_names_that_are_shared_are_shown_with_their_backend(fleet: Fleet) -> None:
    assert [fleet.display_name(one) for one in (WEB, VM_WEB, DB)] == ["native/web", "libvirt/web", "db"]


def test_a_list_brings_the_difference_to_the_one_before(fleet: Fleet) -> None:
    stopped = guest("web", "abcd1234", state=GuestState.STOPPED)
    new = guest("new", "9999")

    events = fleet.update("native", [stopped, new])

    assert events == [GuestGone(DB.ref), GuestChanged(stopped, WEB), GuestAdded(new)]
    assert fleet.update("native", [stopped, new]) == []
    assert [one.name for one in fleet.guests()] == ["new", "web", "web"]


def test_find_asks_only_the_backend_that_is_named(
    open_station: Open, backend: SimulatedBackend, other: SimulatedBackend
) -> None:
    station = open_station(backend, other, sampling=False)

    assert station.find("simulated/db").name == "db"
    assert not other.faults.calls


def test_find_sees_that_a_name_is_not_unique_over_backends(
    open_station: Open, backend: SimulatedBackend, other: SimulatedBackend
) -> None:
    station = open_station(backend, other, sampling=False)

    with pytest.raises(AmbiguousName, match="fits 2 guests"):
        station.find("db")


def test_a_name_that_is_not_found_tells_which_backend_could_not_be_asked(
    open_station: Open, backend: SimulatedBackend, other: SimulatedBackend
) -> None:
    other.faults.die("not installed")
    station = open_station(backend, other, sampling=False)

    with pytest.raises(NotFound) as caught:
        station.find("nobody")

    assert "other could not be asked" in caught.value.hint
    assert "not installed" in caught.value.hint
