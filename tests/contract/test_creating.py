"""Making containers, where a backend can."""

from __future__ import annotations

import pytest

from backends.assets import Images
from backends.capabilities import Creating
from backends.container import ContainerSpec
from backends.errors import AlreadyExists, Busy, NotFound
from backends.model import GuestState, Limits
from tests.contract.conftest import Subject, recorder


def image_of(subject: Subject) -> str:
    name = subject.guest().image
    assert name is not None
    return name


def test_a_container_has_the_name_and_limits_it_was_given(subject: Subject) -> None:
    backend = subject.having(Creating)
    spec = ContainerSpec(image_of(subject), ("true",), "contract-made", Limits(cpus=0.25), network="none")

    guest = backend.create(spec, recorder())
    subject.made.append(guest.ref)

    assert (guest.name, guest.state, guest.limits.cpus) == ("contract-made", GuestState.CREATED, 0.25)
    assert subject.look(guest.ref) == guest


def test_a_container_without_a_name_gets_one_of_its_own(subject: Subject) -> None:
    backend = subject.having(Creating)
    spec = ContainerSpec(image_of(subject), ("true",), network="none")

    guests = [backend.create(spec, recorder()) for _ in range(3)]
    subject.made += [guest.ref for guest in guests]

    assert len({guest.name for guest in guests}) == 3
    assert all(guest.name for guest in guests)


def test_an_image_that_does_not_exist_is_not_found_and_nothing_is_made(subject: Subject) -> None:
    backend = subject.having(Creating)

    with pytest.raises(NotFound):
        backend.create(ContainerSpec("no-such-image", name="contract-made"), recorder())

    assert "contract-made" not in {guest.name for guest in subject.backend.guests()}


def test_a_name_that_is_taken_is_refused(subject: Subject) -> None:
    backend = subject.having(Creating)
    image = image_of(subject)
    taken = subject.guest("contract-taken")

    with pytest.raises(AlreadyExists):
        backend.create(ContainerSpec(image, name="contract-taken"), recorder())

    assert [one.ref for one in subject.backend.guests() if one.name == "contract-taken"] == [taken.ref]


def test_explaining_makes_nothing(subject: Subject) -> None:
    backend = subject.having(Creating)
    image = image_of(subject)
    before = subject.backend.guests()

    steps = backend.explain(ContainerSpec(image, ("true",), name="contract-explained"))

    assert steps
    assert all(process and step.describe() for process, step in steps)
    assert subject.backend.guests() == before


def test_an_image_in_use_is_kept(subject: Subject) -> None:
    creating, images = subject.having(Creating), subject.having(Images)
    folder_name = "contract-image"
    images.image_import(folder_name, str(__file__.rpartition("/")[0]), recorder())
    guest = creating.create(ContainerSpec(folder_name, ("true",), network="none"), recorder())
    subject.made.append(guest.ref)

    with pytest.raises(Busy):
        images.image_remove(folder_name, recorder())
    subject.forget_guest(guest.ref)
    images.image_remove(folder_name, recorder())

    assert folder_name not in {image.name for image in images.images()}
    with pytest.raises(NotFound):
        images.image_remove(folder_name, recorder())


def test_an_image_name_that_is_taken_is_refused(subject: Subject) -> None:
    images = subject.having(Images)
    images.image_import("contract-image", str(__file__.rpartition("/")[0]), recorder())

    with pytest.raises(AlreadyExists):
        images.image_import("contract-image", str(__file__.rpartition("/")[0]), recorder())
    images.image_remove("contract-image", recorder())
