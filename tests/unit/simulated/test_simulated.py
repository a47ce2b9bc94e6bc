"""Simulated guests move as real ones do, and obey what they are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends import registry
from backends.capabilities import Executing
from backends.errors import BackendUnavailable, UsageError
from backends.metrics import Rates, Sample, rates
from backends.model import Guest, GuestKind, GuestState
from backends.registry import BackendConfig
from backends.simulated.backend import SimulatedBackend, make
from backends.simulated.names import HOSTILE
from backends.trace import Recorder

MIB = 1024**2


class StepClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def opened(clock: StepClock, **more: Any) -> SimulatedBackend:
    backend = SimulatedBackend(clock=clock, epoch_s=1_700_000_000.0, **more)
    backend.open()
    return backend


def walk(backend: SimulatedBackend, clock: StepClock, guest: Guest, seconds: int) -> tuple[Sample, Sample]:
    """Let time pass in steps of a second and return the first and the last sample."""
    first = backend.sample()[guest.ref]
    for _ in range(seconds):
        clock.now_s += 1.0
        last = backend.sample()[guest.ref]
    return first, last


def busiest(backend: SimulatedBackend, clock: StepClock, field: str) -> tuple[Guest, Rates]:
    """Return the running container with the highest rate."""
    before = backend.sample()
    clock.now_s += 10.0
    after = backend.sample()
    found = {ref: rates(before[ref], sample) for ref, sample in after.items()}
    running = [
        guest for guest in backend.guests() if guest.state is GuestState.RUNNING and guest.kind is GuestKind.CONTAINER
    ]
    guest = max(running, key=lambda guest: getattr(found[guest.ref], field) or 0.0)
    return guest, found[guest.ref]


def test_the_same_seed_and_clock_give_the_same_guests_and_figures() -> None:
    told = []
    for _ in range(2):
        clock = StepClock()
        backend = opened(clock, seed=7)
        clock.now_s += 30.0
        told.append((backend.guests(), backend.sample()))

    assert told[0] == told[1]
    assert opened(StepClock(), seed=8).guests() != told[0][0]


@pytest.mark.parametrize("count", [0, 1, 40, 1000])
def test_there_are_as_many_guests_as_asked_with_names_of_their_own(count: int) -> None:
    for hostile in (False, True):
        names = [guest.name for guest in opened(StepClock(), guests=count, hostile=hostile).guests()]
        assert len(set(names)) == len(names) == count


def test_a_lifelike_fleet_has_both_kinds_and_several_states() -> None:
    guests = opened(StepClock(), guests=40).guests()

    assert {guest.kind for guest in guests} == set(GuestKind)
    states = {GuestState.RUNNING, GuestState.PAUSED, GuestState.CREATED, GuestState.STOPPED}
    assert {guest.state for guest in guests} == states
    assert any(guest.limits.cpus for guest in guests)


def test_hostile_names_are_all_there() -> None:
    names = {guest.name for guest in opened(StepClock(), guests=40, hostile=True).guests()}

    assert set(HOSTILE) <= names
    assert any("\x1b" in name for name in names)
    assert any(len(name) >= 200 for name in names)


def test_a_cpu_limit_holds_a_guest_and_counts_as_throttling() -> None:
    clock = StepClock()
    backend = opened(clock)
    guest, free = busiest(backend, clock, "cpu_pct")
    assert (free.cpu_pct or 0) > 20

    backend.set_limits(guest.ref, {"cpus": 0.1}, Recorder("test"))
    held = rates(*walk(backend, clock, guest, 20))

    assert held.cpu_pct == pytest.approx(10.0, rel=0.05)
    assert (held.cpu_throttled_pct or 0) > 20
    assert (held.cpu_pressure_pct or 0) > 0


@pytest.mark.parametrize(
    "field, limit",
    [
        ("io_read_bytes_per_s", "io_read_bytes_per_s"), ("io_write_bytes_per_s", "io_write_bytes_per_s"),
        ("net_rx_bytes_per_s", "net_rx_bytes_per_s"), ("net_tx_bytes_per_s", "net_tx_bytes_per_s"),
        ("io_read_ops_per_s", "io_read_ops_per_s"), ("io_write_ops_per_s", "io_write_ops_per_s"),
    ],
)  # fmt: skip
def test_a_limit_of_disk_or_network_holds_a_guest(field: str, limit: str) -> None:
    clock = StepClock()
    backend = opened(clock)
    guest, free = busiest(backend, clock, field)
    most = int(getattr(free, field) / 10)

    backend.set_limits(guest.ref, {limit: most}, Recorder("test"))
    held = rates(*walk(backend, clock, guest, 60))

    assert 0 < getattr(held, field) <= most


def test_a_memory_limit_below_need_holds_and_kills() -> None:
    clock = StepClock()
    backend = opened(clock)
    guest, _ = busiest(backend, clock, "memory_bytes")
    backend.set_limits(guest.ref, {"memory_bytes": 16 * MIB}, Recorder("test"))

    _, last = walk(backend, clock, guest, 30)

    assert last.memory_bytes == 16 * MIB
    assert (last.oom_kills or 0) >= 2
    assert next(one for one in backend.guests() if one.ref == guest.ref).oom_kills == last.oom_kills
    assert backend.inspect(guest.ref)["state"]["oom_kills"] == last.oom_kills


def test_a_paused_guest_stands_still() -> None:
    clock = StepClock()
    backend = opened(clock)
    guest, _ = busiest(backend, clock, "cpu_pct")
    backend.pause(guest.ref, Recorder("test"))
    lines = list(backend.logs(guest.ref))

    first, last = walk(backend, clock, guest, 5)

    assert rates(first, last).cpu_pct == 0.0
    assert first.memory_bytes == last.memory_bytes
    assert list(backend.logs(guest.ref)) == lines


def test_logs_grow_with_time_while_a_guest_runs() -> None:
    clock = StepClock()
    backend = opened(clock)
    guest, _ = busiest(backend, clock, "cpu_pct")
    before = list(backend.logs(guest.ref))

    clock.now_s += 60.0

    after = list(backend.logs(guest.ref))
    assert after[: len(before)] == before
    assert len(after) > len(before) + 10
    assert [line.time_s for line in after] == sorted(line.time_s for line in after)


def test_programs_cannot_be_run_in_simulated_guests_and_it_says_so() -> None:
    backend = opened(StepClock(), guests=1)

    assert not isinstance(backend, Executing)
    assert backend.is_simulated
    assert backend.why_not("exec", backend.guests()[0])


def test_it_is_made_from_options_and_registered(tmp_path: Path) -> None:
    options = {"guests": "9", "seed": "3", "names": "hostile", "verb_s": "0"}
    backend = registry.make("simulated", BackendConfig(tmp_path, tmp_path, options))
    backend.open()

    assert len(backend.guests()) == 9
    assert {guest.name for guest in backend.guests()} & set(HOSTILE)


def test_it_can_be_made_to_fail(tmp_path: Path) -> None:
    backend = make(BackendConfig(tmp_path, tmp_path, {"fail": "no such daemon"}))

    with pytest.raises(BackendUnavailable, match="no such daemon"):
        backend.open()


@pytest.mark.parametrize("options", [{"guests": "many"}, {"colour": "red"}])
def test_an_option_that_makes_no_sense_is_refused(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="simulated backend"):
        make(BackendConfig(tmp_path, tmp_path, options))
