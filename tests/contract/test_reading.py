"""What every backend tells of its guests."""

from __future__ import annotations

import json
from dataclasses import fields

from backends.capabilities import Lifecycle, Logging, Processes
from backends.metrics import Sample
from backends.model import GuestKind, LogLine
from tests.contract.conftest import Subject, recorder
from tests.tools.waiting import wait_until

COUNTERS = (
    "cpu_usage_ns", "cpu_throttled_ns", "cpu_periods", "cpu_throttled_periods", "io_read_bytes", "io_write_bytes",
    "io_read_ops", "io_write_ops", "net_rx_bytes", "net_tx_bytes", "oom_kills",
)  # fmt: skip


def test_a_new_guest_is_listed_once_under_its_name_and_reference(subject: Subject) -> None:
    guest = subject.guest("contract-listed")

    listed = subject.backend.guests()

    assert [one.ref for one in listed if one.name == "contract-listed"] == [guest.ref]
    assert len({one.ref for one in listed}) == len(listed)
    assert {one.ref.backend for one in listed} == {subject.backend.name}
    assert guest.kind in subject.backend.kinds
    assert not guest.state.is_live


def test_references_stay_from_one_list_to_the_next(subject: Subject) -> None:
    subject.guest()

    assert {one.ref for one in subject.backend.guests()} == {one.ref for one in subject.backend.guests()}


def test_a_live_guest_has_a_start_time_or_none_and_a_stopped_one_no_pid(subject: Subject) -> None:
    stopped, live = subject.guest(), subject.live()

    assert stopped.pid is None
    assert live.pid is None or live.pid > 1
    assert live.exit_code is None
    assert live.started_s is None or live.started_s > 1_000_000_000


def test_only_live_guests_are_sampled(subject: Subject) -> None:
    stopped, live = subject.guest(), subject.live()

    subject.sample(live.ref)
    samples = subject.backend.sample()

    assert stopped.ref not in samples
    assert live.ref in samples
    alive = {one.ref for one in subject.backend.guests() if one.state.is_live}
    assert set(samples) <= alive


def test_counters_never_go_back_and_time_goes_on(subject: Subject) -> None:
    live = subject.live()
    first = subject.sample(live.ref)
    wait_until(lambda: subject.sample(live.ref).time_s > first.time_s)

    second = subject.sample(live.ref)

    for name in COUNTERS:
        before, after = getattr(first, name), getattr(second, name)
        assert before is None or after is None or after >= before >= 0, name


def test_a_sample_holds_numbers_or_none(subject: Subject) -> None:
    live = subject.live()

    sample = subject.sample(live.ref)

    for field in fields(Sample):
        value = getattr(sample, field.name)
        assert value is None or (isinstance(value, int | float) and value >= 0), field.name


def test_a_guest_that_was_removed_is_sampled_and_listed_no_more(subject: Subject) -> None:
    live = subject.live()
    subject.backend.sample()

    subject.forget_guest(live.ref)

    assert live.ref not in subject.backend.sample()
    assert live.ref not in {one.ref for one in subject.backend.guests()}


def test_inspect_is_json_with_the_agreed_keys(subject: Subject) -> None:
    for guest in (subject.guest(), subject.live()):
        told = json.loads(json.dumps(subject.backend.inspect(guest.ref)))

        assert told["id"] == guest.ref.id
        assert told["name"] == guest.name
        assert told["backend"] == subject.backend.name
        assert told["kind"] == guest.kind
        assert {"status", "exit_code", "oom_kills"} <= set(told["state"])
        assert told["state"]["status"] == guest.state


def test_every_verb_leaves_its_steps_in_the_trace(subject: Subject) -> None:
    guest = subject.guest()
    backend = subject.having(Lifecycle)
    before = len(subject.backend.trace(guest.ref))
    mine = recorder()

    backend.start(guest.ref, mine)

    records = subject.backend.trace(guest.ref)
    assert len(records) > before
    assert mine.records
    assert all(type(record).from_json(record.to_json()) == record for record in records)
    assert all(record.kind and record.text for record in records)
    assert [record.time_s for record in records] == sorted(record.time_s for record in records)


def test_a_live_guest_has_processes(subject: Subject) -> None:
    live = subject.live()
    backend = subject.having(Processes, "processes", live)

    processes = backend.processes(live.ref)

    assert processes
    assert all(process.pid > 1 and process.state for process in processes)
    if live.kind is GuestKind.CONTAINER:
        assert live.pid in {process.pid for process in processes}


def test_what_a_guest_printed_is_kept_also_after_its_end(subject: Subject) -> None:
    live = subject.live()
    backend = subject.having(Logging, "logs", live)
    wait_until(lambda: list(backend.logs(live.ref)))
    subject.having(Lifecycle).kill(live.ref, recorder())

    lines = list(backend.logs(live.ref))

    assert lines
    assert all(isinstance(line, LogLine) and isinstance(line.data, bytes) for line in lines)
    assert list(backend.logs(live.ref, tail=1)) == lines[-1:]
    assert list(backend.logs(live.ref, tail=0)) == []
    assert list(backend.logs(live.ref, follow=True)) == lines


def test_following_a_log_ends_when_it_is_told_to(subject: Subject) -> None:
    live = subject.live()
    backend = subject.having(Logging, "logs", live)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2

    for _ in backend.logs(live.ref, follow=True, stop=stop):
        pass

    assert asked > 2
    assert subject.look(live.ref).state.is_live
