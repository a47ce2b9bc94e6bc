"""Published ports, in docker's words: "[[ADDRESS:]HOST:]GUEST[/udp]"; with no HOST a free one is chosen."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from backends.errors import Unsupported, UsageError

LOOPBACK6 = "::1"
MOST_RELAYED = 256
"""Ports of one container at ::1: each is a socket of its supervisor."""

_PROTOCOLS = ("tcp", "udp", "sctp")
_HINT = "8080:80, 127.0.0.1:8080:80, [::1]:53:53/udp, 8000-8010:8000-8010"


@dataclass(frozen=True, slots=True)
class Port:
    """One port of the host that leads to one of the container."""

    host: int
    """0: one that is free, to be chosen."""

    guest: int
    protocol: str = "tcp"
    address: str = ""
    """Of the host; empty: all of them, "0.0.0.0" and "::" all of a family."""

    @property
    def text(self) -> str:
        """As a user would say it."""
        at = f"[{self.address}]:" if ":" in self.address else f"{self.address}:" if self.address else ""
        host = f"{self.host or ''}:" if self.host or at else ""
        return f"{at}{host}{self.guest}" + ("" if self.protocol == "tcp" else f"/{self.protocol}")

    @property
    def is_relayed(self) -> bool:
        """True if it is at ::1 too, from where no kernel leads a packet to a container: backends/native/relay does."""
        return self.address in ("", "::", LOOPBACK6) and self.protocol in ("tcp", "udp")

    def families(self) -> tuple[int, ...]:
        """Return 4, 6 or both: the families of the addresses that it is at."""
        return (4, 6) if not self.address else (6,) if ":" in self.address else (4,)


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
    """Raise UsageError for what makes no sense, Unsupported for what neither kernel nor relay does."""
    ports = parse_ports(texts)
    if sum(port.address == LOOPBACK6 for port in ports) > MOST_RELAYED:
        raise Unsupported(f"at most {MOST_RELAYED} ports of a container can be published at {LOOPBACK6}")
    for port in ports:
        if port.address == LOOPBACK6 and not port.is_relayed:
            hint = f"127.0.0.1:{port.host or ''}:{port.guest}/{port.protocol} is reached as localhost too"
            raise Unsupported(f"port {port.text}: only TCP and UDP are led from ::1 to a container", hint=hint)


def check_exposed(texts: Sequence[str]) -> None:
    """Raise UsageError for what is no port of a container's own."""
    for text in texts:
        if ":" in text:
            raise UsageError(f"--expose {text!r}: it names a port of the container alone", hint="80, 53/udp, 8000-8010")
        parse_port(text)


def parse_port(text: str) -> list[Port]:
    """Return the port of one text, or the ports of a range. Raises UsageError."""
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise UsageError(f"port {text!r}: protocol {protocol!r} is not known", hint=", ".join(_PROTOCOLS))
    head, colon, guest = rest.rpartition(":")
    address, host = _address(text, head) if colon else ("", "")
    guests = _range(text, guest)
    if not host and (not colon or address):
        return [Port(0, theirs, protocol, address) for theirs in guests]
    hosts = _range(text, host)
    if len(guests) != len(hosts):
        raise UsageError(f"port {text!r}: the two ranges are not of one length")
    return [Port(ours, theirs, protocol, address) for ours, theirs in zip(hosts, guests, strict=True)]


def exposed_texts(exposed: Sequence[str], published: Sequence[str]) -> list[str]:
    """Return each exposed port ("80/tcp", "8000-8010/udp") that is not published, as a port. Raises UsageError."""
    done = {(port.guest, port.protocol) for port in parse_ports(published)}
    found = [port for text in exposed for port in parse_port(text)]
    return list(dict.fromkeys(port.text for port in found if (port.guest, port.protocol) not in done))


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
    if not all(_is_port(number) for number in numbers):
        raise UsageError(f"port {text!r}: {part!r} is no port", hint=_HINT)
    if int(numbers[-1]) < int(numbers[0]):
        raise UsageError(f"port {text!r}: {part!r} ends before it begins")
    return range(int(numbers[0]), int(numbers[-1]) + 1)


def _is_port(text: str) -> bool:
    # Not by a pattern: supervisors read ports too, and the first use of one takes memory that is then theirs alone.
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


def collide(one: Port, other: Port) -> bool:
    """Say whether no two programs could have both."""
    if not one.host or (one.host, one.protocol) != (other.host, other.protocol):
        return False
    if not set(one.families()) & set(other.families()):
        return False
    return one.address == other.address or any(port.address in ("", "0.0.0.0", "::") for port in (one, other))
