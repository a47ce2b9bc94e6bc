"""Snapshots: a tree that can be grown, gone back in, and pruned."""

from __future__ import annotations

import pytest

from backends.capabilities import Snapshotting
from backends.errors import AlreadyExists, NotFound, UsageError
from backends.model import GuestState
from tests.contract.conftest import Subject, recorder


def test_a_guest_has_no_snapshots_at_first(subject: Subject) -> None:
    guest = subject.guest()

    assert list(subject.having(Snapshotting, "snapshot", guest).snapshots(guest.ref)) == []


def test_snapshots_are_listed_parents_first_with_one_current(subject: Subject) -> None:
    guest = subject.guest()
    backend = subject.having(Snapshotting, "snapshot", guest)

    made = [backend.snapshot_create(guest.ref, name, recorder()) for name in ("one", "two", "three")]

    listed = backend.snapshots(guest.ref)
    assert [(one.name, one.parent) for one in listed] == [("one", None), ("two", "one"), ("three", "two")]
    assert [one.name for one in listed if one.is_current] == ["three"]
    assert [one.name for one in made] == ["one", "two", "three"]
    assert all(one.created_s > 1_000_000_000 for one in listed)


def test_what_comes_after_a_restore_branches_off_there(subject: Subject) -> None:
    guest = subject.guest()
    backend = subject.having(Snapshotting, "snapshot", guest)
    for name in ("one", "two"):
        backend.snapshot_create(guest.ref, name, recorder())

    backend.snapshot_restore(guest.ref, "one", recorder())
    assert [one.name for one in backend.snapshots(guest.ref) if one.is_current] == ["one"]
    backend.snapshot_create(guest.ref, "branch", recorder())

    parents = {one.name: one.parent for one in backend.snapshots(guest.ref)}
    assert parents == {"one": None, "two": "one", "branch": "one"}


def test_removing_one_leaves_the_others_whole(subject: Subject) -> None:
    guest = subject.guest()
    backend = subject.having(Snapshotting, "snapshot", guest)
    for name in ("one", "two", "three"):
        backend.snapshot_create(guest.ref, name, recorder())

    backend.snapshot_remove(guest.ref, "two", recorder())

    assert [(one.name, one.parent) for one in backend.snapshots(guest.ref)] == [("one", None), ("three", "one")]
    backend.snapshot_restore(guest.ref, "three", recorder())
    backend.snapshot_restore(guest.ref, "one", recorder())


def test_a_live_guest_is_live_after_a_restore(subject: Subject) -> None:
    live = subject.live()
    backend = subject.having(Snapshotting, "snapshot", live)
    backend.snapshot_create(live.ref, "running", recorder())

    backend.snapshot_restore(live.ref, "running", recorder())

    subject.state_becomes(live.ref, GuestState.RUNNING)


def test_a_name_that_is_taken_is_refused(subject: Subject) -> None:
    guest = subject.guest()
    backend = subject.having(Snapshotting, "snapshot", guest)
    backend.snapshot_create(guest.ref, "one", recorder())

    with pytest.raises(AlreadyExists):
        backend.snapshot_create(guest.ref, "one", recorder())

    assert len(backend.snapshots(guest.ref)) == 1


def test_an_empty_name_is_refused(subject: Subject) -> None:
    guest = subject.guest()
    backend = subject.having(Snapshotting, "snapshot", guest)

    with pytest.raises(UsageError):
        backend.snapshot_create(guest.ref, "", recorder())


@pytest.mark.parametrize("verb", ["snapshot_restore", "snapshot_remove"])
def test_a_snapshot_that_does_not_exist_is_not_found(subject: Subject, verb: str) -> None:
    guest = subject.guest()
    backend = subject.having(Snapshotting, "snapshot", guest)

    with pytest.raises(NotFound):
        getattr(backend, verb)(guest.ref, "nothing", recorder())


def test_removing_a_guest_removes_its_snapshots_too(subject: Subject) -> None:
    guest = subject.guest("contract-saved")
    backend = subject.having(Snapshotting, "snapshot", guest)
    backend.snapshot_create(guest.ref, "one", recorder())
    subject.forget_guest(guest.ref)

    again = subject.guest("contract-saved")

    assert list(backend.snapshots(again.ref)) == []
