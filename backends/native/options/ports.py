"""Published ports, in docker's words: "[ADDRESS:]HOST:GUEST[/udp]"."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from backends.errors import Unsupported, UsageError

_PROTOCOLS = ("tcp", "udp", "sctp")
_TRIES = 1000
_HINT = "8080:80, 127.0.0.1:8080:80, [::1]:53:53/udp, 8000-8010:8000-8010"


@dataclass(frozen=True, slots=True)
class Port:
    """One port of the host that leads to one of the container."""

    host: int
    guest: int
    protocol: str = "tcp"
    address: str = ""
    """Of the host; empty: all of them."""


def parse_ports(texts: Sequence[str]) -> list[Port]:
    """Return every port that the texts ask for. Raises UsageError also for one that is asked for twice."""
    found: list[Port] = []
    for text in texts:
        for port in parse_port(text):
            if any(collide(port, other) for other in found):
                raise UsageError(f"port {text!r}: {port.host}/{port.protocol} of the host is asked for twice")
            found.append(port)
    return found


def check(texts: Sequence[str]) -> None:
    """Raise UsageError for what makes no sense, Unsupported for what cannot be done yet."""
    for port in parse_ports(texts):
        if ":" in port.address:
            raise Unsupported(f"port {port.host}: IPv6 addresses cannot be published yet")


def parse_port(text: str) -> list[Port]:
    """Return the port of one text, or the ports of a range. Raises UsageError."""
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise UsageError(f"port {text!r}: protocol {protocol!r} is not known", hint=", ".join(_PROTOCOLS))
    head, colon, guest = rest.rpartition(":")
    if not colon:
        raise UsageError(f"port {text!r} names no port of the host", hint=_HINT)
    address, host = _address(text, head)
    guests, hosts = _range(text, guest), _range(text, host)
    if len(guests) != len(hosts):
        raise UsageError(f"port {text!r}: the two ranges are not of one length")
    return [Port(ours, theirs, protocol, address) for ours, theirs in zip(hosts, guests, strict=True)]


def free_ports(exposed: Sequence[str], published: Sequence[str], taken: Sequence[Port]) -> list[str]:
    """Return "HOST:GUEST/protocol" for each exposed port ("80/tcp", "8000-8010/udp") that is not published yet.

    The host's ports are free now, and none of those that other containers have. Raises UsageError.
    """
    own = parse_ports(published)
    done = {(port.guest, port.protocol) for port in own}
    found: list[str] = []
    for text in exposed:
        rest, _, protocol = text.partition("/")
        protocol = protocol.lower() or "tcp"
        for guest in _range(text, rest):
            if (guest, protocol) not in done and protocol in _PROTOCOLS:
                done.add((guest, protocol))
                host = _free_port(protocol, [*own, *taken, *parse_ports(found)])
                found.append(f"{host}:{guest}/{protocol}")
    return found


def _free_port(protocol: str, taken: Sequence[Port]) -> int:
    import socket

    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    used = {port.host for port in taken if port.protocol == protocol}
    for _ in range(_TRIES):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.bind(("", 0))
            number = int(sock.getsockname()[1])
        if number not in used:
            return number
    raise UsageError(f"no free {protocol} port of the host was found")


def _address(text: str, head: str) -> tuple[str, str]:
    """Split "127.0.0.1:8080" or "[::1]:8080" into address and port."""
    address, colon, host = head.rpartition(":")
    if not colon:
        return "", head
    plain = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    try:
        return str(ipaddress.ip_address(plain)), host
    except ValueError:
        raise UsageError(f"port {text!r}: {address!r} is no address", hint=_HINT) from None


def _range(text: str, part: str) -> range:
    first, dash, last = part.partition("-")
    numbers = [first, last] if dash else [first]
    if not all(re.fullmatch("[0-9]{1,5}", number) and 0 < int(number) < 65536 for number in numbers):
        raise UsageError(f"port {text!r}: {part!r} is no port", hint=_HINT)
    if int(numbers[-1]) < int(numbers[0]):
        raise UsageError(f"port {text!r}: {part!r} ends before it begins")
    return range(int(numbers[0]), int(numbers[-1]) + 1)


def collide(one: Port, other: Port) -> bool:
    """Say whether no two programs could have both."""
    same = (one.host, one.protocol) == (other.host, other.protocol)
    return same and (one.address == other.address or not one.address or not other.address)
