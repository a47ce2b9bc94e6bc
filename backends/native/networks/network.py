"""A network as it is kept: what was asked of it and what was chosen."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict, dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network


@dataclass(frozen=True, slots=True)
class StoredNetwork:
    """One network (network.json)."""

    name: str
    id: str
    bridge: str
    """Name of its link on the host: at most 15 bytes."""

    subnet: str
    gateway: str
    """The host's address on it."""

    subnet6: str = ""
    """Empty: it has no IPv6."""

    gateway6: str = ""
    ip_range: str = ""
    """Where addresses are taken from; empty: the whole subnet."""

    internal: bool = False
    """It has no way out."""

    labels: dict[str, str] = field(default_factory=dict)
    created_s: float | None = None

    @property
    def ipv4(self) -> IPv4Network:
        """Its IPv4 subnet."""
        return IPv4Network(self.subnet)

    @property
    def ipv6(self) -> IPv6Network | None:
        """Its IPv6 subnet, if it has one."""
        return IPv6Network(self.subnet6) if self.subnet6 else None

    @property
    def subnets(self) -> tuple[str, ...]:
        """IPv4 before IPv6."""
        return (self.subnet, self.subnet6) if self.subnet6 else (self.subnet,)

    @property
    def gateways(self) -> tuple[str, ...]:
        """One for each subnet."""
        return (self.gateway, self.gateway6) if self.subnet6 else (self.gateway,)

    def to_json(self) -> str:
        """Return network.json."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> StoredNetwork:
        """Raises ValueError, TypeError for what is no such network."""
        raw = json.loads(text)
        known = {each.name for each in fields(cls)}
        found = cls(**{key: value for key, value in raw.items() if key in known})
        ipaddress.ip_network(found.subnet)
        return found
