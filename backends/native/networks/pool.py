"""The addresses of one network, on disk: a file for each that is taken, made with O_EXCL, so that nobody gets it twice.

::

    FOLDER/ADDRESS      holds the id of the container that has it
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from backends.errors import AlreadyExists, InnkeeperError, UsageError
from backends.native.networks.network import StoredNetwork

_MOST_TRIED = 1 << 20


class AddressPool:
    """Leases of the addresses of one network."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def lease(self, network: StoredNetwork, container_id: str, wanted: str = "") -> str:
        """Take a free IPv4 address, or the one that is wanted. Raises InnkeeperError."""
        if wanted:
            return self._take_wanted(network, container_id, wanted)
        numbers, size = _numbers(network), 4
        return self._take_first(numbers, size, container_id, network.ip_range or network.subnet)

    def lease6(self, network: StoredNetwork, container_id: str, wanted: str = "") -> str:
        """Take a free IPv6 address, or the one that is wanted. Raises InnkeeperError."""
        if wanted:
            return self._take_wanted(network, container_id, wanted)
        subnet = network.ipv6
        assert subnet is not None
        first = int(subnet.network_address)
        gateway = int(ipaddress.IPv6Address(network.gateway6))
        most = min(subnet.num_addresses, _MOST_TRIED)
        numbers = (number for number in range(first + 2, first + most) if number != gateway)
        return self._take_first(numbers, 16, container_id, network.subnet6)

    def release(self, address: str) -> None:
        """Give an address back."""
        with suppress(FileNotFoundError):
            os.unlink(f"{self._folder}/{address}")

    def retake(self, address: str, container_id: str) -> None:
        """Have an address on record that is the container's, and for which a crash left no file."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._take(address, container_id)

    def leases(self) -> dict[str, str]:
        """Return the container id of each address that is taken."""
        found = {}
        with suppress(FileNotFoundError):
            for address in os.listdir(self._folder):
                with suppress(FileNotFoundError):
                    found[address] = (self._folder / address).read_text()
        return found

    def _take_first(self, numbers: Iterator[int], size: int, container_id: str, where: str) -> str:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        taken = set(os.listdir(self._folder))
        family = socket.AF_INET if size == 4 else socket.AF_INET6
        for number in numbers:
            address = socket.inet_ntop(family, number.to_bytes(size, "big"))
            if address not in taken and self._take(address, container_id):
                return address
        raise InnkeeperError(f"no address is left in {where}", hint="remove containers that are not needed")

    def _take_wanted(self, network: StoredNetwork, container_id: str, wanted: str) -> str:
        address = str(check_static(network, wanted))
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if not self._take(address, container_id):
            owner = self.leases().get(address, "")
            if owner != container_id:
                raise AlreadyExists(f"address {address} of network {network.name} is taken by container {owner}")
        return address

    def _take(self, address: str, container_id: str) -> bool:
        try:
            fd = os.open(f"{self._folder}/{address}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return False
        try:
            os.write(fd, container_id.encode())
        finally:
            os.close(fd)
        return True


def check_static(network: StoredNetwork, text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return a fixed address if a container may have it on a network. Raises UsageError."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(f"{text!r} is no address") from None
    subnet = network.ipv4 if address.version == 4 else network.ipv6
    if subnet is None:
        hint = "make one that has: inn network create --ipv6 NAME"
        raise UsageError(f"address {address}: network {network.name} has no IPv6", hint=hint)
    if address not in subnet:
        raise UsageError(f"address {address} is not in {subnet} of network {network.name}")
    ends = {subnet.network_address, subnet.broadcast_address} if address.version == 4 else {subnet.network_address}
    if address in ends or str(address) in network.gateways:
        raise UsageError(f"address {address} of network {network.name} is no container's: it is the network's own")
    return address


def _numbers(network: StoredNetwork) -> Iterator[int]:
    """Yield the IPv4 addresses that containers get, as numbers: not the first, the last and the gateway's."""
    subnet = network.ipv4
    gateway = int.from_bytes(socket.inet_aton(network.gateway), "big")
    part = ipaddress.IPv4Network(network.ip_range) if network.ip_range else subnet
    lowest, highest = int(subnet.network_address) + 1, int(subnet.broadcast_address) - 1
    for number in range(max(lowest, int(part.network_address)), min(highest, int(part.broadcast_address)) + 1):
        if number != gateway:
            yield number
