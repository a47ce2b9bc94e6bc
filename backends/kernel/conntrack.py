"""Forgetting connections that the kernel tracks (linux/netfilter/nfnetlink_conntrack.h).

A flow of UDP has no end that is seen: when a published port leads elsewhere, or nowhere, its packets go on to where
the first of them went, for as long as there are any. Such flows are forgotten, one by one.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Protocol

_NFNL_CTNETLINK, _GET, _DELETE = 1, 1, 2
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_TUPLE_ORIG, _TUPLE_REPLY, _ID = 1, 2, 12
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUM, _PROTO_DST_PORT = 1, 3
_IP_SRC, _IP_DST = (1, 3), (2, 4)
_HEAD, _NFGEN = struct.Struct("=IHHII"), struct.Struct("=BBH")
_BUFFER = 1 << 16
_NUMBERS = {"udp": socket.IPPROTO_UDP, "sctp": 132}


class PublishedPort(Protocol):
    """What is asked of a port: it was, or is to be, led elsewhere."""

    @property
    def host(self) -> int: ...

    @property
    def protocol(self) -> str: ...


def forget(ports: Iterable[PublishedPort]) -> None:
    """Forget the flows to these ports of the host whose addresses were changed, but those of TCP, which end by
    themselves. Does nothing where connections are not tracked."""
    wanted = {(_NUMBERS[port.protocol], port.host) for port in ports if port.protocol in _NUMBERS}
    if not wanted:
        return
    with suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 12) as sock:
        for family in (socket.AF_INET, socket.AF_INET6):
            for values in list(_flows(sock, family)):
                if _is_wanted(values, wanted):
                    _delete(sock, family, values)


def _is_wanted(values: dict[int, bytes], wanted: set[tuple[int, int]]) -> bool:
    original, reply = dict(_attributes(values[_TUPLE_ORIG])), dict(_attributes(values[_TUPLE_REPLY]))
    protocol = dict(_attributes(original[_TUPLE_PROTO]))
    port = protocol.get(_PROTO_DST_PORT)
    if port is None or (protocol[_PROTO_NUM][0], struct.unpack(">H", port)[0]) not in wanted:
        return False
    there, back = dict(_attributes(original[_TUPLE_IP])), dict(_attributes(reply[_TUPLE_IP]))
    to = next(there[key] for key in _IP_DST if key in there)
    answers = next(back[key] for key in _IP_SRC if key in back)
    return to != answers or _is_here(to)


def _is_here(address: bytes) -> bool:
    """Say whether an address is one of this host's: those can be bound."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((socket.inet_ntop(family, address), 0))
        except OSError:
            return False
    return True


def _flows(sock: socket.socket, family: int) -> Iterator[dict[int, bytes]]:
    sock.send(_message(_GET, _REQUEST | _DUMP, family, b""))
    while True:
        packet, offset = sock.recv(_BUFFER), 0
        while offset + _HEAD.size <= len(packet):
            length, kind, _, _, _ = _HEAD.unpack_from(packet, offset)
            if kind in (_DONE, _ERROR):
                return
            values = dict(_attributes(packet[offset + _HEAD.size + _NFGEN.size : offset + length]))
            if _TUPLE_ORIG in values and _TUPLE_REPLY in values:
                yield values
            offset += length + -length % 4


def _delete(sock: socket.socket, family: int, values: dict[int, bytes]) -> None:
    body = _attribute(_TUPLE_ORIG | 0x8000, values[_TUPLE_ORIG])
    if _ID in values:
        body += _attribute(_ID, values[_ID])
    sock.send(_message(_DELETE, _REQUEST | _ACK, family, body))
    sock.recv(_BUFFER)  # gone by itself meanwhile, or gone now


def _message(kind: int, flags: int, family: int, body: bytes) -> bytes:
    length = _HEAD.size + _NFGEN.size + len(body)
    return _HEAD.pack(length, _NFNL_CTNETLINK << 8 | kind, flags, 1, 0) + _NFGEN.pack(family, 0, 0) + body


def _attribute(number: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        length, number = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield number & 0x3FFF, data[offset + 4 : offset + length]
        offset += length + -length % 4
