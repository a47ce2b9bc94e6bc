"""What is kept of networks: subnets, addresses, and what is refused."""

from __future__ import annotations

import threading
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from backends.errors import AlreadyExists, Busy, InnkeeperError, NotFound, UsageError
from backends.native.networks import joining
from backends.native.networks.network import StoredNetwork
from backends.native.networks.pool import AddressPool
from backends.native.networks.store import NetworkStore
from backends.network import Attachment, NetworkSpec

SMALL = StoredNetwork("small", "1", "inn-1", "10.77.0.0/29", "10.77.0.1")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NetworkStore:
    """Networks on a host that has one route."""
    monkeypatch.setattr("backends.kernel.netlink.taken_subnets", lambda: {"192.168.1.0/24", "fe80::/64"})
    return NetworkStore(tmp_path, "inn0")


def test_a_network_gets_a_free_subnet_and_the_first_address_is_the_hosts(store: NetworkStore) -> None:
    made = store.create(NetworkSpec("web", labels={"a": "b"}))
    assert store.default().subnet == "10.209.0.0/24"
    assert made.gateway == made.subnet.replace(".0/24", ".1")
    assert not made.ipv4.overlaps(store.default().ipv4)
    assert store.get("web") == store.get(made.id[:6]) == made
    assert [each.name for each in store.all()] == ["bridge", "web"]
    assert len(made.bridge) <= 15


def test_subnets_gateways_and_ranges_are_as_given(store: NetworkStore) -> None:
    spec = NetworkSpec("a", ("fd00:1::/64", "10.20.0.0/16"), ("10.20.255.254", "fd00:1::ff"), "10.20.3.0/24")
    made = store.create(spec)
    assert made.subnets == ("10.20.0.0/16", "fd00:1::/64")
    assert made.gateways == ("10.20.255.254", "fd00:1::ff")
    (endpoint,) = joining.join(store, "c" * 12, [Attachment("a")])
    assert endpoint.addresses == ("10.20.3.0", "fd00:1::2")
    assert (endpoint.gateway, endpoint.gateway6, endpoint.prefix_length) == ("10.20.255.254", "fd00:1::ff", 16)


def test_an_ipv6_subnet_is_chosen_for_who_asks(store: NetworkStore) -> None:
    made = store.create(NetworkSpec("six", ipv6=True))
    assert made.ipv6 is not None
    assert made.ipv6.prefixlen == 64
    assert made.ipv6.subnet_of(IPv6Network("fd00::/8"))


@pytest.mark.parametrize(
    "spec",
    [
        NetworkSpec("bridge"),
        NetworkSpec("host"),
        NetworkSpec("../x"),
        NetworkSpec("x", ("nonsense",)),
        NetworkSpec("x", ("10.0.0.1/24",)),
        NetworkSpec("x", ("10.0.0.0/31",)),
        NetworkSpec("x", ("127.0.0.0/24",)),
        NetworkSpec("x", ("10.0.0.0/24", "10.1.0.0/24")),
        NetworkSpec("x", ("192.168.1.128/25",)),
        NetworkSpec("x", ("10.209.0.0/16",)),
        NetworkSpec("x", ("10.0.0.0/24",), ("10.1.0.1",)),
        NetworkSpec("x", ("10.0.0.0/24",), ("10.0.0.255",)),
        NetworkSpec("x", ("10.0.0.0/24",), ip_range="10.1.0.0/25"),
        NetworkSpec("x", ("10.0.0.0/24",), ("fd00::1",)),
    ],
)
def test_networks_that_make_no_sense_are_refused(store: NetworkStore, spec: NetworkSpec) -> None:
    store.default()
    with pytest.raises(UsageError):
        store.create(spec)
    assert [each.name for each in store.all()] == ["bridge"]
    assert store.half_made() == []


def test_names_are_unique_and_a_network_in_use_stays(store: NetworkStore) -> None:
    store.create(NetworkSpec("a"))
    with pytest.raises(AlreadyExists):
        store.create(NetworkSpec("a"))
    endpoints = joining.join(store, "c" * 12, [Attachment("a")])
    with pytest.raises(Busy):
        store.remove("a")
    joining.leave(store, endpoints)
    store.remove("a")
    with pytest.raises(NotFound):
        store.get("a")
    with pytest.raises(UsageError, match="default"):
        store.remove("bridge")


def test_of_many_at_once_each_gets_an_address_of_its_own(tmp_path: Path) -> None:
    network = StoredNetwork("big", "1", "inn-1", "10.77.0.0/24", "10.77.0.1")
    got: list[str] = []

    def take(number: int) -> None:
        pool = AddressPool(tmp_path / "leases")
        got.extend(pool.lease(network, f"{number}-{again}") for again in range(25))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == len(got) == 200


def test_a_full_network_says_so_and_has_room_again_when_one_leaves(tmp_path: Path) -> None:
    pool = AddressPool(tmp_path / "leases")
    got = [pool.lease(SMALL, str(number)) for number in range(5)]
    assert got == ["10.77.0.2", "10.77.0.3", "10.77.0.4", "10.77.0.5", "10.77.0.6"]
    with pytest.raises(InnkeeperError, match="no address is left"):
        pool.lease(SMALL, "late")
    pool.release("10.77.0.4")
    assert pool.lease(SMALL, "late") == "10.77.0.4"


@pytest.mark.parametrize("text", ["10.77.0.0", "10.77.0.1", "10.77.0.7", "10.78.0.2", "x", "fd00::2"])
def test_a_fixed_address_that_no_container_can_have_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        AddressPool(tmp_path / "leases").lease(SMALL, "c", text)


def test_a_fixed_address_is_had_once_and_a_failure_gives_all_back(store: NetworkStore) -> None:
    store.create(NetworkSpec("a", ("10.20.0.0/24",)))
    store.create(NetworkSpec("b", ("10.30.0.0/24",)))
    joining.join(store, "first", [Attachment("b", ip="10.30.0.9")])
    with pytest.raises(AlreadyExists, match=r"10\.30\.0\.9"):
        joining.join(store, "second", [Attachment("a"), Attachment("b", ip="10.30.0.9")])
    assert store.pool("a").leases() == {}
    assert store.pool("b").leases() == {"10.30.0.9": "first"}


def test_several_networks_have_links_of_their_own_within_15_bytes(store: NetworkStore) -> None:
    for name in ("a", "b"):
        store.create(NetworkSpec(name))
    found = joining.join(store, "0123456789ab", [Attachment("a"), Attachment("bridge"), Attachment("b")])
    assert [each.ifname for each in found] == ["eth0", "eth1", "eth2"]
    assert [each.link for each in found] == ["inn0123456789", "inn01234567891", "inn01234567892"]
    assert len({each.mac for each in found}) == 3
    assert joining.join_one(store, "0123456789ab", Attachment("a"), found[1:]).ifname == "eth0"
