"""Limits are set, read back, lifted and taken back; all of a change or none of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.capabilities import Evidencing, Lifecycle, Limiting
from backends.errors import InnkeeperError
from backends.metrics import Sample
from backends.model import Guest, Limits
from tests.contract.conftest import Subject, raises_only_ours, recorder, settable

MIB = 1024**2
WANTED: dict[str, Any] = {
    "cpus": 0.5,
    "cpu_weight": 200,
    "cpuset": "0",
    "memory_bytes": 192 * MIB,
    "memory_high_bytes": 128 * MIB,
    "swap_bytes": 64 * MIB,
    "pids": 200,
    "io_read_bytes_per_s": 10 * MIB,
    "io_write_bytes_per_s": 5 * MIB,
    "io_read_ops_per_s": 1000,
    "io_write_ops_per_s": 500,
    "net_rx_bytes_per_s": 4 * MIB,
    "net_tx_bytes_per_s": 2 * MIB,
    "net_delay_s": 0.05,
    "net_jitter_s": 0.01,
    "net_loss_pct": 2.5,
}

TOGETHER = {"swap_bytes": "memory_bytes"}
"""A limit that only makes sense with another one: cgroup v1 limits swap as part of the sum."""


def wanted_with(name: str) -> dict[str, Any]:
    """Return the limit and what it cannot be without."""
    names = [name, TOGETHER[name]] if name in TOGETHER else [name]
    return {each: WANTED[each] for each in names}


def guest_in(subject: Subject, state: str) -> Guest:
    return subject.live() if state == "live" else subject.guest()


@pytest.mark.parametrize("state", ["stopped", "live"])
@pytest.mark.parametrize("name", WANTED)
def test_a_limit_is_set_read_back_and_put_back(subject: Subject, state: str, name: str) -> None:
    guest = guest_in(subject, state)
    why = settable(subject, guest)[name]
    backend = subject.having(Limiting)
    before = backend.limits(guest.ref)
    if why:
        with pytest.raises(InnkeeperError):
            backend.set_limits(guest.ref, {name: WANTED[name]}, recorder())
        assert backend.limits(guest.ref) == before
        return

    wanted = wanted_with(name)
    told = backend.set_limits(guest.ref, wanted, recorder())

    assert {each: getattr(told, each) for each in wanted} == wanted
    assert backend.limits(guest.ref) == told
    assert getattr(subject.look(guest.ref).limits, name) == WANTED[name]
    backend.set_limits(guest.ref, {each: getattr(before, each) for each in wanted}, recorder())
    assert backend.limits(guest.ref) == before


def test_what_limits_did_is_told_only_of_those_that_are_set(subject: Subject) -> None:
    guest = subject.live()
    backend, counting = subject.having(Limiting), subject.having(Evidencing)
    assert counting.limit_evidence(guest.ref) == {}
    counted = [name for name, why in settable(subject, guest).items() if name.startswith("net_") and not why]
    backend.set_limits(guest.ref, {name: WANTED[name] for name in counted}, recorder())
    assert set(counting.limit_evidence(guest.ref)) == set(counted)
    assert all(each.held_back >= 0 and each.dropped >= 0 for each in counting.limit_evidence(guest.ref).values())
    backend.set_limits(guest.ref, dict.fromkeys(counted), recorder())
    assert counting.limit_evidence(guest.ref) == {}


@pytest.mark.parametrize("state", ["stopped", "live"])
def test_several_limits_are_set_at_once_and_others_stay(subject: Subject, state: str) -> None:
    guest = guest_in(subject, state)
    fields = settable(subject, guest)
    backend = subject.having(Limiting)
    changes = {name: value for name, value in WANTED.items() if not fields[name]}
    one = next(iter(changes))

    backend.set_limits(guest.ref, changes, recorder())
    backend.set_limits(guest.ref, {one: None}, recorder())

    after = backend.limits(guest.ref)
    assert {name: getattr(after, name) for name in changes if name != one} == {
        name: value for name, value in changes.items() if name != one
    }


def next_name(wrong: dict[str, Any]) -> str:
    return next(iter(wrong))


@pytest.mark.parametrize("state", ["stopped", "live"])
@pytest.mark.parametrize(
    "wrong", [{"cpuset": "9999"}, {"cpus": -1.0}, {"memory_bytes": -1}, {"no_such_limit": 1}], ids=next_name
)
def test_a_change_of_which_one_part_is_refused_changes_nothing(
    subject: Subject, state: str, wrong: dict[str, Any]
) -> None:
    guest = guest_in(subject, state)
    fields = settable(subject, guest)
    backend = subject.having(Limiting)
    before = backend.limits(guest.ref)
    good = {name: value for name, value in WANTED.items() if not fields[name] and name not in wrong}

    with pytest.raises(InnkeeperError):
        backend.set_limits(guest.ref, good | wrong, recorder())

    assert backend.limits(guest.ref) == before
    assert subject.look(guest.ref).limits == before


def test_limits_of_a_stopped_guest_are_in_force_when_it_starts(subject: Subject) -> None:
    guest = subject.guest()
    fields = settable(subject, guest)
    backend = subject.having(Limiting)
    changes = {name: WANTED[name] for name in ("cpus", "memory_bytes") if not fields[name]}
    backend.set_limits(guest.ref, changes, recorder())

    subject.having(Lifecycle).start(guest.ref, recorder())

    in_force = backend.limits(guest.ref)
    assert {name: getattr(in_force, name) for name in changes} == changes


def test_every_field_is_told_settable_or_why_not(subject: Subject) -> None:
    guest = subject.live()

    fields = settable(subject, guest)

    assert set(fields) >= set(Limits.__dataclass_fields__) - {"io_devices"}
    assert all(isinstance(why, str) for why in fields.values())


def test_a_memory_limit_below_use_is_warned_of(subject: Subject) -> None:
    guest = subject.live()
    if settable(subject, guest)["memory_bytes"]:
        pytest.skip("no memory limit here")
    backend = subject.having(Limiting)
    last = Sample(1.0, memory_bytes=100 * MIB, memory_cache_bytes=0)

    below = backend.limit_warnings(guest, {"memory_bytes": 50 * MIB}, last)
    above = backend.limit_warnings(guest, {"memory_bytes": 200 * MIB}, last)

    assert set(below) - set(above)
    assert not backend.limit_warnings(guest, {"memory_bytes": None}, last)


NUMBERS = st.none() | st.integers(-(2**70), 2**70)
"""Far beyond what a kernel takes."""

KINDS: dict[str, st.SearchStrategy[Any]] = {"cpus": st.none() | st.floats(), "cpuset": st.text(max_size=8)}


@st.composite
def odd_changes(draw: st.DrawFn) -> dict[str, Any]:
    """Values of the right type, most of which no kernel takes."""
    names = draw(st.sets(st.sampled_from([*WANTED, "no_such_limit"]), max_size=3))
    return {name: draw(KINDS.get(name, NUMBERS)) for name in sorted(names)}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=odd_changes())
def test_nonsense_raises_only_our_errors_and_changes_nothing(subject: Subject, changes: dict[str, Any]) -> None:
    if not subject.made:
        subject.guest()
    backend = subject.having(Limiting, "limit", subject.look(subject.made[0]))
    before = backend.limits(subject.made[0])

    error = raises_only_ours(lambda: backend.set_limits(subject.made[0], changes, recorder()))

    if error is not None:
        assert backend.limits(subject.made[0]) == before
