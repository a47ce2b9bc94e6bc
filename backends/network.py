"""What every layer agrees that a network of guests is, and what may be asked of networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class NetworkMember:
    """A guest on a network."""

    guest: str
    """Its name."""

    addresses: tuple[str, ...] = ()
    """Without prefix lengths; IPv4 before IPv6."""

    aliases: tuple[str, ...] = ()
    """Further names that resolve to it on this network."""

    ports: tuple[str, ...] = ()
    """Published ports that lead to it here: "127.0.0.1:8080->80/tcp"."""

    link: str = ""
    """The host's end of its link; empty while it is not live."""

    is_live: bool = False
    rx_bytes: int | None = None
    """What it has received over this network alone, since its link is there; None while it is not live."""

    tx_bytes: int | None = None
    """What it has sent."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network that guests can be on."""

    name: str
    id: str
    driver: str = "bridge"
    """"bridge", "host", "none"."""

    subnets: tuple[str, ...] = ()
    """"10.209.0.0/24", "fd00::/64"."""

    gateways: tuple[str, ...] = ()
    """The host's addresses on it."""

    bridge: str = ""
    """Name of the link; it is there only while somebody is on it."""

    is_internal: bool = False
    """True if it has no way out."""

    is_default: bool = False
    """True for one that is always there and cannot be removed."""

    created_s: float | None = None
    members: tuple[NetworkMember, ...] = ()
    rx_bytes: int | None = None
    """What its guests have received over the links that are there now; None while nobody is on it."""

    tx_bytes: int | None = None
    """What its guests have sent."""

    labels: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    """What is wrong with it: what is on record of it is damaged, say."""


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """What the user asks of a new network."""

    name: str
    subnets: tuple[str, ...] = ()
    """Empty: a free IPv4 subnet is chosen."""

    gateways: tuple[str, ...] = ()
    """One for each subnet; empty: the first address."""

    ip_range: str = ""
    """Part of the IPv4 subnet that addresses are taken from; empty: all of it."""

    ipv6: bool = False
    """An IPv6 subnet too, chosen from fd00::/8 unless one is given."""

    internal: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attachment:
    """How a guest is on one network."""

    network: str
    """Name of the network."""

    ip: str = ""
    """A fixed IPv4 address; empty: a free one."""

    ip6: str = ""
    aliases: tuple[str, ...] = ()
    mac: str = ""
    """Empty: one that is made of its id."""
