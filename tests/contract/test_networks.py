"""Networks: made, joined, left and removed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import pytest

from backends.assets import Networks
from backends.errors import AlreadyExists, Busy, NotFound, UsageError
from backends.model import Guest
from backends.network import Attachment, Network, NetworkSpec
from tests.contract.conftest import Subject, recorder


@pytest.fixture
def network(subject: Subject) -> Iterator[Network]:
    """A network of the test's own."""
    backend = subject.having(Networks)
    made: Network = backend.network_create(NetworkSpec(f"contract-{uuid.uuid4().hex[:8]}"), recorder())
    yield made
    subject.clear()
    if made.name in {each.name for each in backend.networks()}:
        backend.network_remove(made.name, recorder())


def _guest(subject: Subject) -> Guest:
    guest = subject.guest()
    why = subject.backend.why_not("network", guest)
    if why:
        pytest.skip(why)
    return guest


def _look(subject: Subject, name: str) -> Network:
    networks: Sequence[Network] = subject.having(Networks).networks()
    return next(each for each in networks if each.name == name)


def test_a_network_gets_a_subnet_and_a_gateway(subject: Subject, network: Network) -> None:
    assert len(network.subnets) == len(network.gateways) == 1
    assert not network.is_default
    assert _look(subject, network.name).id == network.id


def test_a_default_network_is_always_there_and_stays(subject: Subject) -> None:
    backend = subject.having(Networks)
    default = next(each for each in backend.networks() if each.is_default)

    with pytest.raises(Exception, match=default.name):
        backend.network_remove(default.name, recorder())

    assert default.name in {each.name for each in backend.networks()}


def test_names_and_subnets_that_are_taken_are_refused(subject: Subject, network: Network) -> None:
    backend = subject.having(Networks)

    with pytest.raises(AlreadyExists):
        backend.network_create(NetworkSpec(network.name), recorder())
    with pytest.raises(UsageError):
        backend.network_create(NetworkSpec("contract-overlap", network.subnets), recorder())
    with pytest.raises(UsageError):
        backend.network_create(NetworkSpec("contract-nonsense", ("300.1.2.3/8",)), recorder())


def test_a_guest_joins_and_leaves(subject: Subject, network: Network) -> None:
    backend, guest = subject.having(Networks), _guest(subject)

    backend.network_connect(guest.ref, Attachment(network.name, aliases=("contract-alias",)), recorder())

    member = next(each for each in _look(subject, network.name).members if each.guest == guest.name)
    assert "contract-alias" in member.aliases
    assert network.name in subject.look(guest.ref).networks
    with pytest.raises(Busy):
        backend.network_remove(network.name, recorder())
    backend.network_disconnect(guest.ref, network.name, recorder())
    assert not _look(subject, network.name).members
    backend.network_remove(network.name, recorder())
    with pytest.raises(NotFound):
        backend.network_connect(guest.ref, Attachment(network.name), recorder())


def test_a_guest_that_is_removed_is_on_no_network(subject: Subject, network: Network) -> None:
    backend, guest = subject.having(Networks), _guest(subject)
    backend.network_connect(guest.ref, Attachment(network.name), recorder())

    subject.forget_guest(guest.ref)

    assert not _look(subject, network.name).members
