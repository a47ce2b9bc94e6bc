"""Links, addresses and bridges as steps, over rtnetlink (rtnetlink(7), veth(4))."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import struct
from dataclasses import dataclass

from backends.errors import InnkeeperError
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
    """Return the destinations of all routes, as "a.b.c.d/n" or "fd00::/n"; of IPv6 those that are for one link only
    are left out."""
    with Rtnetlink() as route:
        found = [*route.routes(), *route.routes(socket.AF_INET6)]
    return {f"{destination}/{length}" for destination, length in found if not destination.startswith(("fe80", "ff"))}


@dataclass(frozen=True, slots=True)
class EnsureBridge(KernelStep):
    """Make the bridge that containers share, with the host's address on it; one that is there stays."""

    name: str
    address: str
    prefix_length: int
    address6: str = ""
    prefix_length6: int = 64
    kind = "bridge"

    def describe(self) -> str:
        six = f" and {self.address6}/{self.prefix_length6}" if self.address6 else ""
        return f"bridge {self.name} with {self.address}/{self.prefix_length}{six}"

    def by_hand(self) -> str:
        six = f"ip addr add {self.address6}/{self.prefix_length6} dev {self.name} nodad; " if self.address6 else ""
        return (
            f"ip link add {self.name} type bridge; ip addr add {self.address}/{self.prefix_length} dev {self.name}; "
            f"{six}ip link set {self.name} up"
        )

    def run(self) -> None:
        """Make it. Raises InnkeeperError if a route of the host leads to its subnets already."""
        if link_exists(self.name):
            return
        self._check_subnets()
        with Rtnetlink() as route:
            route.do(rtnetlink.add_bridge(self.name))
            try:
                index = socket.if_nametoindex(self.name)
                six = [rtnetlink.add_address(index, self.address6, self.prefix_length6)] if self.address6 else []
                route.do(rtnetlink.add_address(index, self.address, self.prefix_length), *six)
            except BaseException:
                delete_link(self.name)
                raise

    def _check_subnets(self) -> None:
        taken = taken_subnets()
        for address, length in ((self.address, self.prefix_length), (self.address6, self.prefix_length6)):
            if not address:
                continue
            subnet = ipaddress.ip_network(f"{address}/{length}", strict=False)
            for text in taken:
                other = ipaddress.ip_network(text)
                if other.version == subnet.version and other.overlaps(subnet):
                    raise InnkeeperError(f"subnet {subnet} is in use on this host: it has a route to {other}")

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
class AllowHairpin(KernelStep):
    """Let a container reach itself by its published ports, where bridged packets pass the host's rules too.

    With br_netfilter the bridge itself carries on a packet whose address those rules have changed.
    """

    link: str
    kind = "bridge"

    def describe(self) -> str:
        return f"let packets of {self.link} come back over it"

    def by_hand(self) -> str:
        return f"bridge link set dev {self.link} hairpin on"

    def run(self) -> None:
        if _passes_rules("iptables") or _passes_rules("ip6tables"):
            with Rtnetlink() as route:
                route.do(rtnetlink.set_hairpin(socket.if_nametoindex(self.link)))


def _passes_rules(kind: str) -> bool:
    try:
        fd = os.open(f"/proc/sys/net/bridge/bridge-nf-call-{kind}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(fd, 8).strip() == b"1"
    finally:
        os.close(fd)


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
    """Empty: no default route over this link; so is gateway6."""

    address6: str = ""
    prefix_length6: int = 64
    gateway6: str = ""
    mac: str = ""
    """Its link address; empty: as it is."""

    kind = "address"

    def describe(self) -> str:
        addresses = [f"{address}/{length}" for address, length in self._addresses()]
        gateways = [gateway for gateway in (self.gateway, self.gateway6) if gateway]
        way_out = f", gateway {' and '.join(gateways)}" if gateways else ""
        return f"{self.name} has {' and '.join(addresses)}{way_out}"

    def by_hand(self) -> str:
        lines = [f"ip addr add {address}/{length} dev {self.name}" for address, length in self._addresses()]
        routes = [f"ip route add default via {gateway}" for gateway in (self.gateway, self.gateway6) if gateway]
        mac = f" address {self.mac}" if self.mac else ""
        return "; ".join([*lines, f"ip link set {self.name}{mac} up", *routes])

    def run(self) -> None:
        index = socket.if_nametoindex(self.name)
        if self.address6:
            self._be_ready_at_once()
        with Rtnetlink() as route:
            addresses = [rtnetlink.add_address(index, address, length) for address, length in self._addresses()]
            routes = [rtnetlink.add_default_route(gateway) for gateway in (self.gateway, self.gateway6) if gateway]
            route.do(*addresses, rtnetlink.set_up(self.name, self.mac), *routes)

    def _addresses(self) -> list[tuple[str, int]]:
        both = ((self.address, self.prefix_length), (self.address6, self.prefix_length6))
        return [(address, length) for address, length in both if address]

    def _be_ready_at_once(self) -> None:
        """Its link-local address too; and no router that somebody else on the network claims to be."""
        for key in ("accept_dad", "accept_ra"):
            try:
                fd = os.open(f"/proc/sys/net/ipv6/conf/{self.name}/{key}", os.O_WRONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                os.write(fd, b"0")
            finally:
                os.close(fd)
