"""Links, addresses and routes over a netlink socket (rtnetlink(7), netlink(7), linux/rtnetlink.h).

::

    with Rtnetlink() as route:
        route.do(add_bridge("inn0"), set_up("inn0"))        # one packet; raises for the first that failed
        index = socket.if_nametoindex("inn0")
        route.do(add_address(index, "10.0.0.1", 24))

No more than a container's start needs, without a library: a message is packed in microseconds, and several
go to the kernel in one call.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_NEWLINK, _DELLINK, _GETLINK, _SETLINK, _NEWADDR, _GETADDR, _NEWROUTE, _DELROUTE, _GETROUTE = (
    16,
    17,
    18,
    19,
    20,
    22,
    24,
    25,
    26,
)
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP, _REPLACE, _EXCL, _CREATE = 0x1, 0x4, 0x300, 0x100, 0x200, 0x400
_F_CAPPED, _F_ACK_TLVS = 0x100, 0x200
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_NLMSGERR_ATTR_MSG = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 10, 18
_IFLA_NET_NS_PID, _IFLA_NET_NS_FD = 19, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER, _BR_FORWARD_DELAY, _BR_STP_STATE = 1, 2, 1, 1, 5
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_F_NODAD = 0x02
_AF_BRIDGE, _IFLA_PROTINFO, _BRPORT_MODE = 7, 12, 4
_IFF_UP = 1
_UNIVERSE, _UNICAST, _TABLE_MAIN, _PROTO_BOOT = 0, 1, 254, 3
_NESTED = 0x8000
_BUFFER = 65536

_HEAD = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")


@dataclass(frozen=True, slots=True)
class Message:
    """One request, without the header that only the socket can number."""

    kind: int
    flags: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """A network link as the kernel lists it."""

    index: int
    name: str
    master: int
    """Index of the bridge it is on; 0: none."""


def add_bridge(name: str) -> Message:
    """Make a bridge that is up, forwards at once and knows no spanning tree."""
    data = _attribute(_BR_FORWARD_DELAY, struct.pack("=I", 0)) + _attribute(_BR_STP_STATE, struct.pack("=I", 0))
    body = _ifinfo(up=True) + _name(name) + _link_info("bridge", data)
    return Message(_NEWLINK, _CREATE | _EXCL, body)


def add_veth(name: str, peer: str, *, master: int = 0, netns_fd: int = -1, netns_pid: int = 0, mac: str) -> Message:
    """Make a pair of links: one here and up, its peer in another network namespace under its final name, still down."""
    there = _attribute(_IFLA_NET_NS_FD, struct.pack("=i", netns_fd)) if netns_fd >= 0 else b""
    there += _attribute(_IFLA_NET_NS_PID, struct.pack("=I", netns_pid)) if netns_pid else b""
    address = _attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
    info = _link_info("veth", _nested(_VETH_PEER, _ifinfo() + _name(peer) + address + there))
    master_part = _attribute(_IFLA_MASTER, struct.pack("=I", master)) if master else b""
    return Message(_NEWLINK, _CREATE | _EXCL, _ifinfo(up=True) + _name(name) + master_part + info)


def set_up(name: str, mac: str = "") -> Message:
    """Bring a link up, with another link address if one is given."""
    address = _attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", ""))) if mac else b""
    return Message(_NEWLINK, 0, _ifinfo(up=True) + _name(name) + address)


def set_master(index: int, master: int) -> Message:
    """Put a link on a bridge; master 0 takes it off."""
    return Message(_SETLINK, 0, _ifinfo(index=index) + _attribute(_IFLA_MASTER, struct.pack("=I", master)))


def set_hairpin(index: int) -> Message:
    """Let a bridge send a packet back over the link that it came from (`bridge link set … hairpin on`)."""
    head = _IFINFO.pack(_AF_BRIDGE, 0, index, 0, 0)
    return Message(_SETLINK, 0, head + _nested(_IFLA_PROTINFO, _attribute(_BRPORT_MODE, b"\x01")))


def delete_link(name: str) -> Message:
    """Delete a link, and with it its peer."""
    return Message(_DELLINK, 0, _ifinfo() + _name(name))


def add_address(index: int, address: str, prefix_length: int) -> Message:
    """Give a link an address, IPv4 or IPv6; an IPv6 one can be used at once, with no search for duplicates."""
    if ":" in address:
        number = socket.inet_pton(socket.AF_INET6, address)
        body = _IFADDR.pack(socket.AF_INET6, prefix_length, _F_NODAD, _UNIVERSE, index)
        return Message(_NEWADDR, _CREATE | _REPLACE, body + _attribute(_IFA_ADDRESS, number))
    number = socket.inet_aton(address)
    host_bits = 32 - prefix_length
    broadcast = (int.from_bytes(number, "big") | ((1 << host_bits) - 1)).to_bytes(4, "big")
    body = _IFADDR.pack(socket.AF_INET, prefix_length, 0, _UNIVERSE, index)
    body += _attribute(_IFA_LOCAL, number) + _attribute(_IFA_ADDRESS, number)
    if host_bits > 1:
        body += _attribute(_IFA_BROADCAST, broadcast)
    return Message(_NEWADDR, _CREATE | _REPLACE, body)


def add_default_route(gateway: str) -> Message:
    """Send what is for nobody near to a gateway, of the gateway's family."""
    return _default_route(_NEWROUTE, _CREATE | _EXCL, gateway)


def delete_default_route(gateway: str) -> Message:
    """Take that route away."""
    return _default_route(_DELROUTE, 0, gateway)


def _default_route(kind: int, flags: int, gateway: str) -> Message:
    family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    body = _RTMSG.pack(family, 0, 0, 0, _TABLE_MAIN, _PROTO_BOOT, _UNIVERSE, _UNICAST, 0)
    return Message(kind, flags, body + _attribute(_RTA_GATEWAY, socket.inet_pton(family, gateway)))


class Rtnetlink:
    """A netlink socket in the network namespace that the process is in when it is made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        for option in (_CAP_ACK, _EXT_ACK):  # short answers, and a sentence with an error
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0

    def __enter__(self) -> Rtnetlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def do(self, *messages: Message) -> None:
        """Send all in one packet and wait for the answers. The kernel tries each; OSError for the first failure."""
        packet, first = bytearray(), self._sequence + 1
        for message in messages:
            packet += self._with_header(message, _REQUEST | _ACK)
        self._socket.send(packet)
        failure: OSError | None = None
        answered = first - 1
        while answered < self._sequence:
            for kind, flags, sequence, body in _split(self._socket.recv(_BUFFER)):
                if kind == _ERROR and sequence >= first:
                    answered = sequence
                    failure = failure or _failure(flags, body)
        if failure is not None:
            raise failure

    def links(self) -> list[Link]:
        """Return all links of this network namespace."""
        found = []
        for answer in self._dump(Message(_GETLINK, _DUMP, _ifinfo())):
            values = dict(_attributes(answer[_IFINFO.size :]))
            name = values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode()
            master = struct.unpack("=I", values[_IFLA_MASTER])[0] if _IFLA_MASTER in values else 0
            found.append(Link(_IFINFO.unpack_from(answer)[2], name, master))
        return found

    def routes(self, family: int = socket.AF_INET) -> list[tuple[str, int]]:
        """Return destination and prefix length of all routes of a family but the default ones, in all tables."""
        found = []
        body = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for answer in self._dump(Message(_GETROUTE, _DUMP, body)):
            length = answer[1]
            for number, value in _attributes(answer[_RTMSG.size :]):
                if number == _RTA_DST:
                    found.append((socket.inet_ntop(family, value), length))
        return found

    def addresses(self) -> list[tuple[int, str, int]]:
        """Return (link index, address, prefix length) of all IPv4 addresses."""
        found = []
        for answer in self._dump(Message(_GETADDR, _DUMP, _IFADDR.pack(socket.AF_INET, 0, 0, 0, 0))):
            _, length, _, _, index = _IFADDR.unpack_from(answer)
            values = dict(_attributes(answer[_IFADDR.size :]))
            address = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
            if address is not None:
                found.append((index, socket.inet_ntoa(address), length))
        return found

    def _dump(self, message: Message) -> Iterator[bytes]:
        self._socket.send(self._with_header(message, _REQUEST))
        while True:
            for kind, flags, sequence, body in _split(self._socket.recv(_BUFFER)):
                if sequence != self._sequence:
                    continue
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise _failure(flags, body) or OSError(0, "an empty answer")
                yield body

    def _with_header(self, message: Message, flags: int) -> bytes:
        self._sequence += 1
        length = _HEAD.size + len(message.body)
        head = _HEAD.pack(length, message.kind, message.flags | flags, self._sequence, 0)
        return head + message.body + bytes(-length % 4)


def _ifinfo(index: int = 0, *, up: bool = False) -> bytes:
    flags = _IFF_UP if up else 0
    return _IFINFO.pack(socket.AF_UNSPEC, 0, index, flags, flags)


def _attribute(number: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, number) + value + bytes(-length % 4)


def _nested(number: int, value: bytes) -> bytes:
    return _attribute(number | _NESTED, value)


def _name(name: str) -> bytes:
    return _attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _link_info(kind: str, data: bytes) -> bytes:
    return _nested(_IFLA_LINKINFO, _attribute(_INFO_KIND, kind.encode() + b"\0") + _nested(_INFO_DATA, data))


def _split(packet: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield (type, flags, sequence, body) of the messages in a packet."""
    offset = 0
    while offset + _HEAD.size <= len(packet):
        length, kind, flags, sequence, _ = _HEAD.unpack_from(packet, offset)
        if length < _HEAD.size:
            return
        yield kind, flags, sequence, packet[offset + _HEAD.size : offset + length]
        offset += length + -length % 4


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        length, number = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield number & 0x3FFF, data[offset + 4 : offset + length]
        offset += length + -length % 4


def _failure(flags: int, body: bytes) -> OSError | None:
    """Return the error in a struct nlmsgerr, with the kernel's own sentence if it has one; None for success."""
    number = -struct.unpack_from("=i", body)[0]
    if number == 0:
        return None
    text = os.strerror(number)
    if flags & _F_ACK_TLVS and flags & _F_CAPPED:
        said = dict(_attributes(body[4 + _HEAD.size :])).get(_NLMSGERR_ATTR_MSG)
        if said:
            text += f" ({said.rstrip(bytes(1)).decode(errors='replace')})"
    return OSError(number, text)
