"""Which subnets networks get: those asked for, if nobody has them, or free ones."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network

from backends.errors import InnkeeperError, UsageError
from backends.network import NetworkSpec

POOLS = ("10.209.0.0/16", "172.29.0.0/16", "192.168.192.0/18")
"""Where IPv4 subnets are chosen from, a /24 each."""

Subnet = IPv4Network | IPv6Network


def asked(spec: NetworkSpec) -> tuple[IPv4Network | None, IPv6Network | None]:
    """Return the subnets that are asked for, at most one of each family. Raises UsageError."""
    found: dict[int, Subnet] = {}
    for text in spec.subnets:
        subnet = _network(text, "subnet")
        if subnet.version in found:
            raise UsageError(f"network {spec.name}: two IPv{subnet.version} subnets", hint="at most one of each family")
        found[subnet.version] = subnet
        most = 29 if subnet.version == 4 else 120
        if subnet.prefixlen > most:
            raise UsageError(f"subnet {subnet} is too small", hint=f"/{most} is the smallest")
        if subnet.is_loopback or subnet.is_multicast or subnet.is_unspecified or subnet.prefixlen < 8:
            raise UsageError(f"subnet {subnet} is nothing that containers can have addresses in")
    first, second = found.get(4), found.get(6)
    return (first if isinstance(first, IPv4Network) else None), (second if isinstance(second, IPv6Network) else None)


def check_free(subnet: Subnet, networks: Iterable[tuple[str, Sequence[str]]], routes: Iterable[str]) -> None:
    """Raise UsageError if a network (name, subnets) or a route of the host overlaps it."""
    for name, subnets in networks:
        for text in subnets:
            if _overlaps(subnet, text):
                raise UsageError(f"subnet {subnet} overlaps {text} of network {name}")
    for text in routes:
        if _overlaps(subnet, text):
            raise UsageError(f"subnet {subnet} is in use on this host: it has a route to {text}")


def free(taken: Iterable[str], seed: str, *, is_first: bool) -> IPv4Network:
    """Return a /24 that nothing overlaps, the same for the same seed where possible. Raises InnkeeperError."""
    used = [ipaddress.ip_network(text, strict=False) for text in taken]
    ours = [each for each in used if isinstance(each, IPv4Network)]
    for subnet in _choices(0 if is_first else hashlib.sha256(seed.encode()).digest()[0]):
        if not any(subnet.overlaps(each) for each in ours):
            return subnet
    raise InnkeeperError(f"every subnet of {', '.join(POOLS)} is in use on this host", hint="give one: --subnet")


def unique_local(seed: str) -> IPv6Network:
    """Return a /64 of fd00::/8 that is made of the seed (RFC 4193 wants it to look like chance)."""
    digits = hashlib.sha256(seed.encode()).digest()[:7]
    return IPv6Network((int.from_bytes(b"\xfd" + digits + bytes(8), "big"), 64))


def gateways(spec: NetworkSpec, subnets: Sequence[Subnet]) -> list[str]:
    """Return the host's address in each subnet: as asked for, else the first. Raises UsageError."""
    found = {subnet.version: str(subnet[1]) for subnet in subnets}
    given: set[int] = set()
    for text in spec.gateways:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise UsageError(f"gateway {text!r} is no address") from None
        subnet = next((each for each in subnets if each.version == address.version), None)
        if subnet is None or address not in subnet or address == subnet.network_address:
            raise UsageError(f"gateway {address} is in no subnet of network {spec.name}")
        if address.version in given or (address.version == 4 and address == subnet.broadcast_address):
            raise UsageError(f"gateway {address} makes no sense for {subnet}")
        given.add(address.version)
        found[address.version] = str(address)
    return [found[subnet.version] for subnet in subnets]


def ip_range(spec: NetworkSpec, subnet: IPv4Network) -> str:
    """Return the part of the subnet that addresses are taken from; empty: all. Raises UsageError."""
    if not spec.ip_range:
        return ""
    part = _network(spec.ip_range, "ip-range")
    if not isinstance(part, IPv4Network) or not part.subnet_of(subnet):
        raise UsageError(f"ip-range {spec.ip_range} is no part of {subnet}")
    return str(part)


def _choices(start: int) -> Iterator[IPv4Network]:
    for number, pool in enumerate(POOLS):
        subnets = list(IPv4Network(pool).subnets(new_prefix=24))
        begin = start if number == 0 else 0
        yield from subnets[begin:] + subnets[:begin]


def _network(text: str, what: str) -> Subnet:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise UsageError(f"{what} {text!r} is none: {error}", hint="10.20.0.0/24, fd00:1::/64") from None


def _overlaps(subnet: Subnet, text: str) -> bool:
    other = ipaddress.ip_network(text, strict=False)
    if isinstance(subnet, IPv4Network):
        return isinstance(other, IPv4Network) and subnet.overlaps(other)
    return isinstance(other, IPv6Network) and subnet.overlaps(other)
