"""When backends are read, and what becomes of the figures."""

from __future__ import annotations

from app.core.settings import Pace
from backends.events import BackendBack, GuestAdded, GuestChanged, GuestGone, Sampled
from backends.metrics import rates
from backends.model import Guest, GuestState
from backends.simulated.backend import SimulatedBackend
from backends.trace import Recorder
from tests.tools.waiting import wait_until
from tests.unit.core.conftest import Heard, Open, guest_of

SLOW_LIST = Pace(quick_list_s=0.0, list_every_s=1000.0, dirty_gap_s=0.0, early_s=0.01)


class StepClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_second_sample_comes_early_and_the_third_after_the_interval(
    open_station: Open, backend: SimulatedBackend
) -> None:
    clock, calls = StepClock(), backend.faults.calls
    station = open_station(backend, interval_s=10.0, clock=clock, pace=Pace())
    wait_until(lambda: calls["sample"] == 1)

    for moment_s, passes in ((100.2, 1), (100.3, 2), (110.2, 2), (110.3, 3), (120.2, 3), (120.3, 4)):
        clock.now_s = moment_s
        station.refresh()
        station.refresh()  # when this one is served, the pass that came with the first is over
        assert calls["sample"] == passes


def test_passes_that_a_slow_backend_missed_are_left_out(open_station: Open, backend: SimulatedBackend) -> None:
    clock, calls = StepClock(), backend.faults.calls
    station = open_station(backend, interval_s=10.0, clock=clock, pace=Pace())
    wait_until(lambda: calls["sample"] == 1)
    clock.now_s = 100.3
    station.refresh()
    wait_until(lambda: calls["sample"] == 2)
    backend.faults.hang("sample")
    clock.now_s = 110.3
    station.refresh()
    wait_until(lambda: backend.faults.hung)

    clock.now_s = 155.0
    backend.faults.release()
    station.refresh()
    station.refresh()

    assert calls["sample"] == 3
    clock.now_s = 160.3
    station.refresh()
    station.refresh()
    assert calls["sample"] == 4


def test_rates_are_derived_from_consecutive_samples(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    heard = Heard(station)

    wait_until(lambda: len(heard.of(Sampled)) > 3)

    first, second = heard.of(Sampled)[1:3]
    ref = next(iter(first.samples))
    assert second.rates[ref] == rates(first.samples[ref], second.samples[ref])
    assert second.rates[ref].cpu_pct is not None
    assert second.rates[ref] in [point for _, point in station.history(ref)]
    assert second.cost_s >= 0


def test_a_stopped_guest_keeps_its_history_but_has_no_rates(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    wait_until(lambda: len(station.history(guest.ref)) > 3)

    station.submit("guest.stop", guest.ref).wait(5)

    wait_until(lambda: station.latest(guest.ref) is None)
    assert station.last_sample(guest.ref) is None
    assert len(station.history(guest.ref)) > 3


def test_a_removed_guest_loses_its_history(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    wait_until(lambda: len(station.history(guest.ref)) > 3)

    station.submit("guest.remove", guest.ref, force=True).wait(5)

    wait_until(lambda: station.fleet.get(guest.ref) is None)
    wait_until(lambda: len(station.history(guest.ref)) == 0)


def test_a_restarted_guest_never_shows_a_negative_rate(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend)
    guest = guest_of(station)
    wait_until(lambda: len(station.history(guest.ref)) > 2)

    station.submit("guest.restart", guest.ref).wait(5)
    length = len(station.history(guest.ref))

    wait_until(lambda: len(station.history(guest.ref)) > length + 2)
    assert all((pct or 0) >= 0 for pct in station.history(guest.ref).series("cpu_pct"))


def test_what_another_terminal_does_is_seen_at_once_though_lists_are_costly(
    open_station: Open, backend: SimulatedBackend
) -> None:
    station = open_station(backend, interval_s=1000.0, pace=SLOW_LIST)
    heard = Heard(station)
    guest = guest_of(station)
    added = len(heard.of(GuestAdded))

    backend.pause(guest.ref, Recorder("another terminal"))
    wait_until(lambda: heard.of(GuestChanged))
    backend.remove(guest.ref, Recorder("another terminal"), force=True)
    wait_until(lambda: heard.of(GuestGone))

    changed = heard.of(GuestChanged)[0]
    assert (changed.before.state, changed.guest.state) == (GuestState.RUNNING, GuestState.PAUSED)
    assert heard.of(GuestGone) == [GuestGone(guest.ref)]
    assert len(heard.of(GuestAdded)) == added


def test_two_changes_close_to_each_other_are_both_seen_at_once(open_station: Open, backend: SimulatedBackend) -> None:
    pace = Pace(quick_list_s=0.0, list_every_s=1000.0, dirty_gap_s=0.2, early_s=0.01)
    station = open_station(backend, interval_s=1000.0, pace=pace)
    guest = guest_of(station)
    wait_until(lambda: backend.faults.calls["sample"] == 2)

    def state() -> GuestState | None:
        seen = station.fleet.get(guest.ref)
        return seen.state if seen is not None else None

    backend.pause(guest.ref, Recorder("another terminal"))
    wait_until(lambda: state() is GuestState.PAUSED)
    backend.resume(guest.ref, Recorder("another terminal"))
    wait_until(lambda: state() is GuestState.RUNNING)


def test_a_shorter_interval_counts_at_once(open_station: Open, backend: SimulatedBackend) -> None:
    station = open_station(backend, interval_s=1000.0, pace=SLOW_LIST)
    wait_until(lambda: backend.faults.calls["sample"] == 2)

    station.set_interval(0.1)

    assert station.interval_s == 0.1
    wait_until(lambda: backend.faults.calls["sample"] > 3)


def test_a_quick_list_is_read_with_each_pass_and_a_slow_one_is_not(open_station: Open) -> None:
    quick, slow = SimulatedBackend(guests=2), SimulatedBackend(guests=2)
    open_station(quick, pace=Pace(early_s=0.01, quick_list_s=10.0, list_every_s=1000.0))
    open_station(slow, pace=SLOW_LIST)

    wait_until(lambda: quick.faults.calls["sample"] > 8 and slow.faults.calls["sample"] > 8)

    assert quick.faults.calls["guests"] >= 8
    assert slow.faults.calls["guests"] == 1


def test_guests_are_told_before_their_first_sample(open_station: Open, backend: SimulatedBackend) -> None:
    backend.faults.hang("open")
    station = open_station(backend)
    heard = Heard(station)
    backend.faults.release()

    wait_until(lambda: heard.of(Sampled))

    kinds = [type(event) for event in heard.of()]
    assert kinds[: kinds.index(Sampled)] == [BackendBack] + [GuestAdded] * 6
    assert {event.guest.ref for event in heard.of(GuestAdded)} >= set(heard.of(Sampled)[0].samples)


class Forward(SimulatedBackend):
    """Samples a guest before it lists it."""

    hides = True

    def guests(self) -> list[Guest]:
        listed = super().guests()
        return listed[1:] if self.hides else listed


def test_figures_of_a_guest_that_is_not_listed_yet_are_left_out(open_station: Open) -> None:
    backend = Forward(guests=3)
    station = open_station(backend)
    heard = Heard(station)
    wait_until(lambda: len(heard.of(Sampled)) > 2)
    known = {guest.ref for guest in station.fleet.guests()}

    assert all(set(event.samples) <= known for event in heard.of(Sampled))

    backend.hides = False
    wait_until(lambda: len(heard.of(Sampled)[-1].samples) == 3)


def test_without_sampling_nothing_is_opened_before_it_is_needed(
    open_station: Open, backend: SimulatedBackend, other: SimulatedBackend
) -> None:
    station = open_station(backend, other, sampling=False)
    assert not backend.faults.calls

    assert station.backend("simulated") is backend

    assert backend.faults.calls == {"open": 1}
    assert not other.faults.calls


def test_own_cpu_is_measured_between_calls(open_station: Open, backend: SimulatedBackend) -> None:
    clock = StepClock()
    station = open_station(backend, sampling=False, clock=clock)
    assert station.own_cpu_pct() is None

    clock.now_s += 1000.0

    share = station.own_cpu_pct()
    assert share is not None
    assert 0 <= share < 100
