"""Which networks a container is to be on, in docker's words: names, none, host, container:GUEST, "name=…,ip=…"."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from backends.container import ContainerSpec
from backends.errors import UsageError
from backends.native.networks.endpoint import DEFAULT
from backends.network import Attachment

BRIDGE, NONE, HOST, CONTAINER = "bridge", "none", "host", "container:"
_ALONE = (NONE, HOST)
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_ALIAS = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9])?")
_HINT = "name=NETWORK,ip=ADDRESS,ip6=ADDRESS,alias=NAME,mac=ADDRESS"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose network a container has, and the networks it is on."""

    mode: str
    """"bridge", "none", "host" or "container:GUEST"."""

    attachments: tuple[Attachment, ...] = ()
    """With "bridge": the networks, eth0's first."""

    @property
    def is_own(self) -> bool:
        """True if its network namespace is its own."""
        return self.mode in (BRIDGE, NONE)


def wanted(asked: ContainerSpec) -> Wanted:
    """Return what network, networks, ip, ip6 and aliases ask for together. Raises UsageError."""
    texts = (asked.network or DEFAULT, *asked.networks)
    alone = next((text for text in texts if text in _ALONE or text.startswith(CONTAINER)), None)
    if alone is not None:
        return Wanted(_checked_alone(asked, alone, len(texts)))
    found = [attachment(text) for text in texts]
    names = [each.network for each in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"network {twice} is asked for twice")
    first = found[0]
    if (asked.ip and first.ip) or (asked.ip6 and first.ip6):
        raise UsageError(f"network {first.network}: its address is asked for twice")
    if asked.mac and first.mac:
        raise UsageError(f"network {first.network}: the address of its link is asked for twice")
    found[0] = replace(
        first, ip=first.ip or _ip(asked.ip, 4), ip6=first.ip6 or _ip(asked.ip6, 6), mac=first.mac or _mac(asked.mac)
    )
    aliases = tuple(_alias(text) for text in asked.aliases)
    merged = (tuple(dict.fromkeys((*each.aliases, *aliases))) for each in found)
    return Wanted(BRIDGE, tuple(replace(each, aliases=names) for each, names in zip(found, merged, strict=True)))


def attachment(text: str) -> Attachment:
    """Return the attachment of "NETWORK" or "name=NETWORK,ip=…,ip6=…,alias=…,mac=…". Raises UsageError."""
    if "=" not in text:
        return Attachment(_name(text))
    values: dict[str, str] = {}
    aliases: list[str] = []
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not value or key in values:
            raise UsageError(f"network {text!r}: {part!r} makes no sense", hint=_HINT)
        if key == "alias":
            aliases.append(_alias(value))
        elif key in ("name", "ip", "ip6", "mac", "mac-address"):
            values[key.removesuffix("-address")] = value
        else:
            raise UsageError(f"network {text!r}: {key!r} is not known", hint=_HINT)
    if "name" not in values:
        raise UsageError(f"network {text!r} names none", hint=_HINT)
    ip, ip6 = _ip(values.get("ip", ""), 4), _ip(values.get("ip6", ""), 6)
    return Attachment(_name(values["name"]), ip, ip6, tuple(aliases), _mac(values.get("mac", "")))


def checked(how: Attachment) -> Attachment:
    """Return an attachment in its usual spelling. Raises UsageError."""
    aliases = tuple(_alias(text) for text in how.aliases)
    return Attachment(_name(how.network), _ip(how.ip, 4), _ip(how.ip6, 6), aliases, _mac(how.mac))


def _checked_alone(asked: ContainerSpec, alone: str, count: int) -> str:
    if count > 1:
        raise UsageError(f"--network {alone} goes with no other network")
    given = {"--ip": asked.ip, "--ip6": asked.ip6, "--mac-address": asked.mac, "--network-alias": asked.aliases}
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} and --network {alone} do not go together: there is no network to have it on")
    if alone == CONTAINER:
        raise UsageError("--network container: names no container", hint="container:NAME")
    return alone


def _name(text: str) -> str:
    name = DEFAULT if text == "default" else text
    if not name or "/" in name or name.startswith(".") or any(c.isspace() or not c.isprintable() for c in name):
        raise UsageError(f"{text!r} is no name of a network", hint="inn network ls lists them")
    if name in _ALONE or name.startswith(CONTAINER):
        raise UsageError(f"{name} is no network that can be joined")
    return name


def _ip(text: str, version: int) -> str:
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(f"{text!r} is no address") from None
    if address.version != version:
        raise UsageError(f"{text} is no IPv{version} address", hint="--ip takes IPv4, --ip6 takes IPv6")
    return str(address)


def _mac(text: str) -> str:
    if not text:
        return ""
    if not _MAC.fullmatch(text) or int(text[:2], 16) & 1:
        raise UsageError(f"{text!r} is no link address", hint="02:00:00:00:00:01; the first byte is even")
    return text.lower()


def _alias(text: str) -> str:
    if not _ALIAS.fullmatch(text):
        raise UsageError(f"{text!r} is no name that can resolve", hint="letters, digits, '-', '_', '.'; at most 64")
    return text


def names_of(attachments: Sequence[Attachment]) -> tuple[str, ...]:
    """Return the names of the networks."""
    return tuple(each.network for each in attachments)
