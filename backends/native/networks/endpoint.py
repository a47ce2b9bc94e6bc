"""A container's end of one network, as it is on record: addresses, links, names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

DEFAULT = "bridge"
"""Name of the network that is always there."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How a container is on one network; one entry of ContainerRecord.attachments."""

    network: str
    bridge: str
    """Name of the host's bridge."""

    address: str
    prefix_length: int
    gateway: str
    """The host's address on the network; the way out, unless it is internal. So is gateway6."""

    address6: str = ""
    """Empty: the network has no IPv6."""

    prefix_length6: int = 64
    gateway6: str = ""
    internal: bool = False
    """The network has no way out."""

    aliases: tuple[str, ...] = ()
    mac: str = ""
    link: str = ""
    """Name of the host's end of the pair: at most 15 bytes."""

    ifname: str = "eth0"
    """Name of the link in the container."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """IPv4 before IPv6, without prefix lengths."""
        return (self.address, self.address6) if self.address6 else (self.address,)

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the record."""
        return asdict(self) | {"aliases": list(self.aliases)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Endpoint:
        """The reverse of to_json; what this version does not know is left out."""
        known = {each.name for each in fields(cls)}
        values = {key: value for key, value in raw.items() if key in known}
        return cls(**values | {"aliases": tuple(raw.get("aliases", ()))})


def addresses_of(endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
    """Return all their addresses, IPv4 before IPv6."""
    return (*(each.address for each in endpoints), *(each.address6 for each in endpoints if each.address6))


def host_link(container_id: str, ifname: str = "eth0") -> str:
    """Return the name of the host's end: of eth0 made of the id alone, of ethN with N after it; at most 15 bytes."""
    return f"inn{container_id[:10]}" + ("" if ifname == "eth0" else ifname.removeprefix("eth")[:2])


def first_mac(container_id: str) -> str:
    """Return the link address that a container's eth0 is made with, before its IP address is known."""
    digits = container_id[:10].ljust(10, "0")
    return "02:" + ":".join(digits[i : i + 2] for i in range(0, 10, 2))


def mac_of(address: str) -> str:
    """Return a locally administered link address made of an IPv4 address: who has it next has the same one.

    Others remember for half a minute where an address was (ARP), and would send to a link that is gone.
    """
    return "02:69:" + ":".join(f"{int(part):02x}" for part in address.split("."))
