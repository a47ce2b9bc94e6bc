"""Ports of the host for those that were published without one."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import replace

from backends.errors import InnkeeperError
from backends.native.options.ports import Port, collide, parse_ports

_TRIES = 100
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}


def with_hosts(texts: Sequence[str], taken: Iterable[str]) -> list[str]:
    """Return what is published with a port of the host each; taken: what other containers publish."""
    ports = parse_ports(texts)
    if all(port.host for port in ports):
        return list(texts)
    others = [*(port for text in taken for port in parse_ports([text])), *(port for port in ports if port.host)]
    found: list[Port] = []
    for port in ports:
        chosen = port if port.host else _chosen(port, [*others, *found])
        found.append(chosen)
    return [port.text for port in found]


def _chosen(port: Port, others: Sequence[Port]) -> Port:
    family = socket.AF_INET6 if ":" in port.address else socket.AF_INET
    for _ in range(_TRIES):
        with socket.socket(family, _KINDS[port.protocol]) as sock:
            try:
                sock.bind((port.address, 0))  # the kernel knows one that nobody has
            except OSError as error:
                raise InnkeeperError(f"no port of the host can be had at {port.address}: {error.strerror}") from error
            candidate = replace(port, host=sock.getsockname()[1])
        if not any(collide(candidate, other) for other in others):
            return candidate
    raise InnkeeperError("no port of the host is free")
