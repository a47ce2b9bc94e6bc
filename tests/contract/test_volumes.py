"""Named volumes: made, shared, kept and removed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import pytest

from backends.assets import Cloning, Volumes
from backends.capabilities import Creating, Lifecycle
from backends.container import ContainerSpec
from backends.errors import AlreadyExists, Busy, NotFound, UsageError
from backends.model import Guest
from backends.volume import Volume, VolumeSpec
from tests.contract.conftest import Subject, recorder


@pytest.fixture
def volume(subject: Subject) -> Iterator[Volume]:
    """A volume of the test's own."""
    backend = subject.having(Volumes)
    made: Volume = backend.volume_create(VolumeSpec(f"contract-{uuid.uuid4().hex[:8]}", {"a": "b"}), recorder())
    yield made
    subject.clear()
    if _look(subject, made.name) is not None:
        backend.volume_remove(made.name, recorder())


def _look(subject: Subject, name: str) -> Volume | None:
    volumes: Sequence[Volume] = subject.having(Volumes).volumes()
    return next((each for each in volumes if each.name == name), None)


def _users(subject: Subject, name: str) -> list[tuple[str, tuple[str, ...], bool]]:
    found = _look(subject, name)
    assert found is not None
    return [(user.guest, user.places, user.is_live) for user in found.users]


def _guest_with(subject: Subject, *volumes: str) -> Guest:
    creating: Creating = subject.having(Creating)
    like = subject.guest()
    assert like.image is not None
    spec = ContainerSpec(like.image, ("sleep", "1000"), name=f"{like.name}-v", network="none", volumes=volumes)
    made = creating.create(spec, recorder())
    subject.made.append(made.ref)
    return made


def test_a_volume_is_listed_with_its_labels_until_it_is_removed(subject: Subject, volume: Volume) -> None:
    backend = subject.having(Volumes)

    found = _look(subject, volume.name)
    assert found is not None
    assert found.labels == {"a": "b"}
    assert not found.users
    assert backend.volume_size(volume.name, recorder()) == 0
    backend.volume_remove(volume.name, recorder())
    assert _look(subject, volume.name) is None
    with pytest.raises(NotFound):
        backend.volume_remove(volume.name, recorder())
    with pytest.raises(NotFound):
        backend.volume_size(volume.name, recorder())


def test_a_name_is_made_up_where_none_is_given_and_a_taken_one_is_refused(subject: Subject, volume: Volume) -> None:
    backend = subject.having(Volumes)
    unnamed = backend.volume_create(VolumeSpec(), recorder())

    assert unnamed.name
    with pytest.raises(AlreadyExists):
        backend.volume_create(VolumeSpec(volume.name), recorder())
    with pytest.raises(UsageError):
        backend.volume_create(VolumeSpec("../moon"), recorder())
    backend.volume_remove(unnamed.name, recorder())


def test_a_volume_that_a_guest_has_stays_until_the_guest_is_removed(subject: Subject, volume: Volume) -> None:
    backend = subject.having(Volumes)
    guest = _guest_with(subject, f"{volume.name}:/data:ro", "/own")

    assert _users(subject, volume.name) == [(guest.name, ("/data",), False)]
    with pytest.raises(Busy, match=guest.name):
        backend.volume_remove(volume.name, recorder())
    assert volume.name not in backend.volume_prune(recorder())
    subject.having(Lifecycle).start(guest.ref, recorder())
    assert _users(subject, volume.name) == [(guest.name, ("/data",), True)]
    subject.forget_guest(guest.ref)
    assert _users(subject, volume.name) == []
    assert volume.name in backend.volume_prune(recorder(), dry_run=True)
    assert volume.name in backend.volume_prune(recorder())
    assert _look(subject, volume.name) is None


def test_a_volume_that_is_not_there_is_made_with_the_first_guest(subject: Subject) -> None:
    backend, name = subject.having(Volumes), f"contract-{uuid.uuid4().hex[:8]}"
    guest = _guest_with(subject, f"{name}:/data")

    assert _users(subject, name) == [(guest.name, ("/data",), False)]
    subject.forget_guest(guest.ref)
    backend.volume_remove(name, recorder())


def test_a_clone_shares_the_volumes_of_its_model(subject: Subject, volume: Volume) -> None:
    guest = _guest_with(subject, f"{volume.name}:/data")
    copy = subject.having(Cloning).clone(guest.ref, f"{guest.name}-2", recorder())
    subject.made.append(copy.ref)

    assert [name for name, _, _ in _users(subject, volume.name)] == [guest.name, copy.name]
