"""What backends promise of guests over time: restart policies, logs, files, and what is told of it all."""

from __future__ import annotations

import io
import tarfile

import pytest

from backends.capabilities import Booting, Copying, Lifecycle, LogClearing, Logging, Restarting, Telling
from backends.container import RestartPolicy
from backends.errors import NotFound, UsageError
from backends.model import GuestRef
from tests.contract.conftest import Subject, recorder
from tests.tools.waiting import wait_until

NOBODY = "0" * 12


def test_a_restart_policy_is_shown_and_can_be_taken_back(subject: Subject) -> None:
    backend, guest = subject.having(Restarting), subject.guest()
    assert guest.restart_policy == ""
    for policy in (RestartPolicy("on-failure", 3), RestartPolicy("always")):
        backend.set_restart_policy(guest.ref, policy, recorder())
        assert subject.look(guest.ref).restart_policy == str(policy)
        assert subject.backend.inspect(guest.ref)["restart_policy"] == str(policy)
    backend.set_restart_policy(guest.ref, RestartPolicy(), recorder())
    assert subject.look(guest.ref).restart_policy == ""


def test_a_policy_that_makes_no_sense_or_of_nobody_is_refused(subject: Subject) -> None:
    backend, guest = subject.having(Restarting), subject.guest()
    with pytest.raises(UsageError):
        backend.set_restart_policy(guest.ref, RestartPolicy("sometimes"), recorder())
    with pytest.raises(NotFound):
        backend.set_restart_policy(GuestRef(subject.backend.name, NOBODY), RestartPolicy("always"), recorder())


def test_a_cleared_log_has_nothing_of_before_and_is_written_on(subject: Subject) -> None:
    backend, guest = subject.having(LogClearing), subject.live()
    reader = subject.having(Logging)
    before = wait_until(lambda: list(reader.logs(guest.ref)))
    backend.clear_log(guest.ref, recorder())
    assert before[0] not in list(reader.logs(guest.ref))
    with pytest.raises(NotFound):
        backend.clear_log(GuestRef(subject.backend.name, NOBODY), recorder())


def test_what_is_copied_in_comes_out_again(subject: Subject) -> None:
    backend, guest = subject.having(Copying), subject.live()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("folder/file")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    buffer.seek(0)
    backend.copy_in(guest.ref, "/root", buffer, recorder())
    archive = backend.copy_out(guest.ref, "/root/folder")
    assert (archive.name, archive.is_directory) == ("folder", True)
    with archive.stream, tarfile.open(fileobj=archive.stream, mode="r|") as tar:
        assert [entry.name for entry in tar] == ["folder", "folder/file"]
    single = backend.copy_out(guest.ref, "/root/folder/file")
    assert (single.name, single.is_directory) == ("file", False)
    single.stream.close()
    for path in ("/root/nothing", "/root/folder/file/."):
        with pytest.raises(NotFound):
            backend.copy_out(guest.ref, path)


def test_a_life_is_told_in_order_with_who_and_when(subject: Subject) -> None:
    backend, guest = subject.having(Telling), subject.live("told")
    subject.having(Lifecycle).stop(guest.ref, recorder(), timeout_s=0)
    events = [event for event in backend.events(since_s=0.0) if event.ref == guest.ref]
    assert [event.action for event in events] == ["create", "start", "stop", "die"]
    assert {event.name for event in events} == {"told"}
    assert [event.time_s for event in events] == sorted(event.time_s for event in events)
    assert list(backend.events(since_s=events[-1].time_s + 1000)) == []


def test_events_are_followed_until_told_to_stop(subject: Subject) -> None:
    backend, guest = subject.having(Telling), subject.guest()
    seen: list[str] = []
    for event in backend.events(follow=True, stop=lambda: "start" in seen or _start_once(subject, guest.ref)):
        seen.append(event.action)
    assert seen == ["start"]


def _start_once(subject: Subject, ref: GuestRef) -> bool:
    """Asked by events() whether to stop: starts the guest the first time."""
    if not subject.look(ref).state.is_live:
        subject.having(Lifecycle).start(ref, recorder())
    return False


def test_halt_and_boot_are_one_night_of_the_host(subject: Subject) -> None:
    backend, kept, other = subject.having(Booting), subject.live(), subject.live()
    subject.having(Restarting).set_restart_policy(kept.ref, RestartPolicy("unless-stopped"), recorder())
    assert {(guest.ref, error) for guest, error in backend.halt(recorder())} >= {(kept.ref, None), (other.ref, None)}
    assert [guest.ref for guest in backend.boot_plan()] == [kept.ref]
    assert [(guest.ref, error) for guest, error in backend.boot(recorder())] == [(kept.ref, None)]
    assert subject.look(kept.ref).state.is_live
    assert not subject.look(other.ref).state.is_live
