"""Guests made from guests: clones, templates, and what differs between snapshots."""

from __future__ import annotations

import pytest

from backends.assets import Cloning, SnapshotComparing, Templating
from backends.capabilities import Snapshotting
from backends.errors import AlreadyExists, NotFound
from backends.model import GuestState
from tests.contract.conftest import Subject, recorder


def test_a_clone_is_another_guest_like_the_first(subject: Subject) -> None:
    guest = subject.guest()
    backend = subject.having(Cloning, "clone", guest)

    made = backend.clone(guest.ref, "contract-clone", recorder())
    subject.made.append(made.ref)

    assert made.ref != guest.ref
    assert (made.name, made.state, made.image) == ("contract-clone", GuestState.CREATED, guest.image)
    assert subject.look(made.ref).limits == guest.limits


def test_a_clone_without_a_name_gets_one_and_a_name_that_is_taken_is_refused(subject: Subject) -> None:
    guest = subject.guest()
    backend = subject.having(Cloning, "clone", guest)

    made = backend.clone(guest.ref, None, recorder())
    subject.made.append(made.ref)

    assert made.name not in ("", guest.name)
    with pytest.raises(AlreadyExists):
        backend.clone(guest.ref, guest.name, recorder())
    with pytest.raises(NotFound):
        backend.clone(guest.ref, "contract-none", recorder(), snapshot="nothing")


def test_a_template_makes_guests_and_remembers_them(subject: Subject) -> None:
    guest = subject.guest()
    backend = subject.having(Templating, "template", guest)

    kept = backend.template_create(guest.ref, "contract-template", recorder())
    made = backend.template_use("contract-template", "contract-of-template", recorder())
    subject.made.append(made.ref)

    assert kept.name == "contract-template"
    listed = next(each for each in backend.templates() if each.name == kept.name)
    assert listed.guests == ("contract-of-template",)
    with pytest.raises(AlreadyExists):
        backend.template_create(guest.ref, "contract-template", recorder())
    subject.clear()
    backend.template_remove("contract-template", recorder())
    with pytest.raises(NotFound):
        backend.template_use("contract-template", None, recorder())


def test_snapshots_are_compared_by_path(subject: Subject) -> None:
    guest = subject.guest()
    snapshots, backend = subject.having(Snapshotting, "snapshot", guest), subject.having(SnapshotComparing)
    for name in ("one", "two"):
        snapshots.snapshot_create(guest.ref, name, recorder())

    found = backend.snapshot_diff(guest.ref, "one", "two")

    assert [each.path for each in found] == sorted(each.path for each in found)
    assert list(backend.snapshot_diff(guest.ref, "one", "one")) == []
    with pytest.raises(NotFound):
        backend.snapshot_diff(guest.ref, "one", "nothing")
