"""Addresses of containers on the shared bridge, and the bridge's coming and going.

::

    STATE/network.json            the subnet that was chosen
    STATE/leases/ADDRESS          holds the id of the container that has it (made with O_EXCL)
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backends.errors import InnkeeperError
from backends.kernel import netlink
from backends.native import nat
from backends.native.locking import locked as locked
from backends.native.store import write_file

_FIRST_CHOICE = "10.209.0.0/16"


@dataclass(frozen=True, slots=True)
class Lease:
    """An address of a container's own."""

    address: str
    prefix_length: int
    gateway: str
    bridge: str


class Addresses:
    """The address pool of one state folder."""

    def __init__(self, state_dir: Path, bridge: str) -> None:
        self._state_dir, self._bridge = state_dir, bridge
        self._leases = state_dir / "leases"

    def lease(self, container_id: str) -> Lease:
        """Take a free address. Raises InnkeeperError when none is left."""
        self._leases.mkdir(mode=0o700, exist_ok=True)
        subnet = self._subnet()
        first, taken = int(subnet.network_address), set(os.listdir(self._leases))
        for number in range(first + 2, first + subnet.num_addresses - 1):
            address = socket.inet_ntoa(number.to_bytes(4, "big"))
            if address in taken:
                continue
            try:
                fd = os.open(f"{self._leases}/{address}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            os.write(fd, container_id.encode())
            os.close(fd)
            return Lease(address, subnet.prefixlen, str(subnet[1]), self._bridge)
        raise InnkeeperError(f"no address is left in {subnet}", hint="remove containers that are not needed")

    def release(self, address: str) -> None:
        """Give an address back."""
        (self._leases / address).unlink(missing_ok=True)

    def leases(self) -> dict[str, str]:
        """Return the container id of each address that is taken."""
        try:
            return {path.name: path.read_text() for path in self._leases.iterdir()}
        except FileNotFoundError:
            return {}

    def _subnet(self) -> ipaddress.IPv4Network:
        path = self._state_dir / "network.json"
        with locked(self._state_dir / "network.lock"):
            if path.exists():
                return ipaddress.IPv4Network(json.loads(path.read_text())["subnet"])
            subnet = _free_subnet(self._bridge)
            write_file(path, json.dumps({"subnet": str(subnet), "bridge": self._bridge}))
            return subnet


def bridge_name(state_dir: Path, *, is_default: bool) -> str:
    """Return the bridge of a state folder: inn0 for the usual one, a name made from the path for others."""
    return "inn0" if is_default else "inn-" + hashlib.sha256(str(state_dir).encode()).hexdigest()[:8]


def detach(link: str) -> None:
    """Delete a container's link. The bridge stays as long as the spawner: making it anew costs each start.

    The link would go with its network namespace, but the kernel takes those down in its own time.
    """
    with suppress(OSError):
        netlink.delete_link(link)


def tidy_bridge(run_dir: Path, bridge: str, *, patience_s: float = 0.0) -> None:
    """Delete the bridge when no container hangs on it any more; wait so long for links that are on their way out."""
    deadline = time.monotonic() + patience_s
    while not _is_tidy(run_dir, bridge) and time.monotonic() < deadline:
        time.sleep(0.02)


def _is_tidy(run_dir: Path, bridge: str) -> bool:
    with bridge_lock(run_dir):
        if netlink.link_exists(bridge):
            if netlink.links_of(bridge):
                return False
            netlink.delete_link(bridge)
        nat.close(run_dir, bridge)  # also if somebody else deleted the bridge
        return True


@contextmanager
def bridge_lock(run_dir: Path) -> Iterator[None]:
    """Hold while a link is put on the bridge, and while an empty bridge is deleted."""
    with locked(run_dir / "bridge.lock"):
        yield


def _free_subnet(bridge: str) -> ipaddress.IPv4Network:
    """Choose a /24 that no route of the host overlaps, the same for the same bridge where possible."""
    taken = [ipaddress.IPv4Network(route, strict=False) for route in netlink.taken_subnets()]
    choices = list(ipaddress.IPv4Network(_FIRST_CHOICE).subnets(new_prefix=24))
    start = 0 if bridge == "inn0" else hashlib.sha256(bridge.encode()).digest()[0]
    for subnet in choices[start:] + choices[:start]:
        if not any(subnet.overlaps(route) for route in taken):
            return subnet
    raise InnkeeperError(f"every subnet of {_FIRST_CHOICE} is in use on this host")
