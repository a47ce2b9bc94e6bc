"""Addresses for a container on the networks that it is to be on, and giving them back."""

from __future__ import annotations

from collections.abc import Sequence

from backends.errors import UsageError
from backends.native.networks.endpoint import DEFAULT, Endpoint, host_link, mac_of
from backends.native.networks.network import StoredNetwork
from backends.native.networks.store import NetworkStore
from backends.network import Attachment


def join(store: NetworkStore, container_id: str, wanted: Sequence[Attachment]) -> list[Endpoint]:
    """Take addresses on all of the networks, or on none. Raises NotFound, AlreadyExists, UsageError."""
    found: list[Endpoint] = []
    try:
        for attachment in wanted:
            found.append(join_one(store, container_id, attachment, found))
        return found
    except BaseException:
        leave(store, found)
        raise


def join_one(store: NetworkStore, container_id: str, wanted: Attachment, before: Sequence[Endpoint] = ()) -> Endpoint:
    """Take an address on one further network."""
    with store.leasing(wanted.network) as network:
        if any(each.network == network.name for each in before):
            raise UsageError(f"network {network.name} is asked for twice")
        if wanted.ip6 and not network.subnet6:
            hint = "make one that has: inn network create --ipv6 NAME"
            raise UsageError(f"address {wanted.ip6}: network {network.name} has no IPv6", hint=hint)
        pool = store.pool(network.name)
        address = pool.lease(network, container_id, wanted.ip)
        try:
            address6 = pool.lease6(network, container_id, wanted.ip6) if network.subnet6 else ""
        except BaseException:
            pool.release(address)
            raise
    return endpoint(network, container_id, wanted, address, address6, before)


def endpoint(
    network: StoredNetwork,
    container_id: str,
    wanted: Attachment,
    address: str,
    address6: str,
    before: Sequence[Endpoint],
) -> Endpoint:
    """Return what goes on record of a container that has these addresses."""
    ifname = _free_ifname(before)
    return Endpoint(
        network=network.name,
        bridge=network.bridge,
        address=address,
        prefix_length=int(network.subnet.rpartition("/")[2]),
        gateway=network.gateway,
        address6=address6,
        prefix_length6=int(network.subnet6.rpartition("/")[2]) if network.subnet6 else 64,
        gateway6=network.gateway6,
        internal=network.internal,
        aliases=tuple(wanted.aliases),
        mac=wanted.mac or mac_of(address),
        link=host_link(container_id, ifname),
        ifname=ifname,
    )


def planned(store: NetworkStore, container_id: str, wanted: Sequence[Attachment]) -> list[Endpoint]:
    """Return how it would be on them, with the addresses that a first container gets; none is taken."""
    found: list[Endpoint] = []
    for each in wanted:
        network = store.get(each.network)
        address6 = each.ip6 or (str(network.ipv6[2]) if network.ipv6 else "")
        found.append(endpoint(network, container_id, each, each.ip or str(network.ipv4[2]), address6, found))
    return found


def leave(store: NetworkStore, endpoints: Sequence[Endpoint]) -> None:
    """Give the addresses back."""
    for each in endpoints:
        for address in each.addresses:
            store.pool(each.network).release(address)


def is_default_alone(wanted: Sequence[Attachment]) -> bool:
    """Say whether a container is to be on the default network only, with nothing asked of it."""
    return list(wanted) == [Attachment(DEFAULT)]


def _free_ifname(before: Sequence[Endpoint]) -> str:
    taken = {each.ifname for each in before}
    return next(name for name in (f"eth{number}" for number in range(100)) if name not in taken)
