"""Links, addresses and bridges as steps, over rtnetlink (rtnetlink(7), veth(4))."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from dataclasses import dataclass

from backends.kernel import rtnetlink
from backends.kernel.mounts import KernelStep
from backends.kernel.rtnetlink import Rtnetlink

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def link_exists(name: str) -> bool:
    """Say whether this network namespace has a link of that name."""
    try:
        return bool(socket.if_nametoindex(name))
    except OSError:
        return False


def delete_link(name: str) -> None:
    """Delete a link; one that is gone already is no error."""
    try:
        with Rtnetlink() as route:
            route.do(rtnetlink.delete_link(name))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def links_of(bridge: str) -> list[str]:
    """Return the links that hang on a bridge."""
    with Rtnetlink() as route:
        links = route.links()
    master = next((link.index for link in links if link.name == bridge), -1)
    return sorted(link.name for link in links if link.master == master)


def taken_subnets() -> set[str]:
    """Return the destinations of all IPv4 routes, as "a.b.c.d/n"."""
    with Rtnetlink() as route:
        return {f"{destination}/{length}" for destination, length in route.routes()}


@dataclass(frozen=True, slots=True)
class EnsureBridge(KernelStep):
    """Make the bridge that containers share, with the host's address on it; one that is there stays."""

    name: str
    address: str
    prefix_length: int
    kind = "bridge"

    def describe(self) -> str:
        return f"bridge {self.name} with {self.address}/{self.prefix_length}"

    def by_hand(self) -> str:
        return (
            f"ip link add {self.name} type bridge; ip addr add {self.address}/{self.prefix_length} dev {self.name}; "
            f"ip link set {self.name} up"
        )

    def run(self) -> None:
        if link_exists(self.name):
            return
        with Rtnetlink() as route:
            route.do(rtnetlink.add_bridge(self.name))
            try:
                index = socket.if_nametoindex(self.name)
                route.do(rtnetlink.add_address(index, self.address, self.prefix_length))
            except BaseException:
                delete_link(self.name)
                raise

    def undo(self) -> None:
        """Nothing: it stays for the next container, and goes with who keeps it."""


@dataclass(frozen=True, slots=True)
class MakeVeth(KernelStep):
    """Make a pair of links: one end on the bridge, the other in the network namespace of a process."""

    host: str
    guest: str
    bridge: str
    pid: int
    mac: str
    kind = "veth"

    def describe(self) -> str:
        return f"link {self.host} on {self.bridge} to {self.guest} in the container"

    def by_hand(self) -> str:
        return (
            f"ip link add {self.host} master {self.bridge} type veth peer name {self.guest} address {self.mac} "
            f"netns {self.pid}; ip link set {self.host} up"
        )

    def run(self) -> None:
        master = socket.if_nametoindex(self.bridge)
        with Rtnetlink() as route:
            # The peer is made in the other namespace at once, under its final name: nothing to rename or move.
            pair = rtnetlink.add_veth(self.host, self.guest, master=master, netns_pid=self.pid, mac=self.mac)
            route.do(pair)

    def undo(self) -> None:
        delete_link(self.host)


@dataclass(frozen=True, slots=True)
class LoopbackUp(KernelStep):
    """Bring lo up in a new network namespace."""

    kind = "link"

    def describe(self) -> str:
        return "bring lo up"

    def by_hand(self) -> str:
        return "ip link set lo up"

    def run(self) -> None:
        # The ioctl of netdevice(7): one flag is not worth the milliseconds of a netlink client.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            request = struct.pack("16sH14x", b"lo", 0)
            flags = struct.unpack_from("H", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)[0]
            fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


@dataclass(frozen=True, slots=True)
class ConfigureLink(KernelStep):
    """Give the container's end its address and the way out. Runs inside its network namespace."""

    name: str
    address: str
    prefix_length: int
    gateway: str
    kind = "address"

    def describe(self) -> str:
        return f"{self.name} has {self.address}/{self.prefix_length}, gateway {self.gateway}"

    def by_hand(self) -> str:
        return (
            f"ip addr add {self.address}/{self.prefix_length} dev {self.name}; ip link set {self.name} up; "
            f"ip route add default via {self.gateway}"
        )

    def run(self) -> None:
        index = socket.if_nametoindex(self.name)
        with Rtnetlink() as route:
            address = rtnetlink.add_address(index, self.address, self.prefix_length)
            route.do(address, rtnetlink.set_up(self.name), rtnetlink.add_default_route(self.gateway))
