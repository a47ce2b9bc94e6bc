"""The files that tell a container names: its own, its hosts', its name servers'."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from backends.container import ContainerSpec
from backends.errors import UsageError, os_error_text
from backends.native.networks.endpoint import Endpoint, addresses_of
from backends.native.options.ports import parse_ports
from backends.native.record import ContainerRecord
from backends.native.resolver import offer

_DOMAIN = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")
_OPTION = re.compile(r"[a-z0-9-]+(:[0-9]+)?")
_LOOPBACK = ("nameserver 127.", "nameserver ::1")
_USUAL_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def check(asked: ContainerSpec) -> None:
    """Raise UsageError for hosts and name servers that make no sense."""
    for text in asked.hosts:
        _host(text)
    for text in asked.dns:
        _ip(text, f"name server {text!r} is no address")
    for text in asked.dns_search:
        if not _DOMAIN.fullmatch(text) and text != ".":
            raise UsageError(f"--dns-search: {text!r} is no domain", hint="example.org; . for none at all")
    for text in asked.dns_options:
        if not _OPTION.fullmatch(text):
            raise UsageError(f"--dns-option: {text!r} is no option of resolv.conf", hint="ndots:2, timeout:1, use-vc")


def hosts_file(asked: ContainerSpec, hostname: str, endpoints: Sequence[Endpoint]) -> str:
    """Return /etc/hosts; with the host's network that of the host, as docker does. Raises UsageError."""
    text = _read("/etc/hosts") if asked.network == "host" else _USUAL_HOSTS
    lines = [f"{address}\t{hostname}\n" for address in addresses_of(endpoints)]
    gateway = next((each.gateway for each in endpoints if not each.internal), None)
    for entry in asked.hosts:
        name, wanted = _host(entry)
        if wanted == "host-gateway":
            wanted = gateway or ("127.0.0.1" if asked.network == "host" else "")
            if not wanted:
                raise UsageError(f"host {entry!r}: a container without a network has no gateway")
        lines.append(f"{wanted}\t{name}\n")
    return text + "".join(lines)


def asks_resolver(network: str, publish: Sequence[str], dns: Sequence[str]) -> bool:
    """Say whether a container with that network on record asks our resolver, which has the names of its networks.

    Not one that answers such questions itself: that publishes the port, or has a name server of its own.
    """
    serves = any(port.guest == offer.PORT for port in parse_ports(publish))
    return network == "bridge" and not serves and not any(ipaddress.ip_address(each).is_loopback for each in dns)


def resolv_conf(record: ContainerRecord) -> str:
    """Return /etc/resolv.conf: our resolver, the name servers asked for, or the host's that a container can reach.

    What else the host's file has stays, unless search domains or options are asked for; a name without dots is tried as
    it is before the search list is.
    """
    lines = _own_search(_read("/etc/resolv.conf").splitlines(keepends=True), record)
    if asks_resolver(record.network, record.publish, record.dns):
        rest = [line for line in lines if line.split(maxsplit=1)[:1] in (["search"], ["domain"], ["options"])]
        rest += [] if any("ndots:" in line for line in rest) else ["options ndots:0\n"]
        return "".join((f"nameserver {offer.ADDRESS}\n", *rest))
    if record.dns:
        kept = (line for line in lines if not line.startswith("nameserver"))
        return "".join((*kept, *(f"nameserver {address}\n" for address in record.dns)))
    return "".join(lines if record.network == "host" else _reachable(lines))


def _own_search(lines: list[str], record: ContainerRecord) -> list[str]:
    """Put what is asked for in the place of the host's search list and options."""
    replaced = (["search", "domain"] if record.dns_search else []) + (["options"] if record.dns_options else [])
    kept = [line for line in lines if line.split(maxsplit=1)[:1] not in [[word] for word in replaced]]
    if record.dns_search and record.dns_search != ["."]:
        kept.append(f"search {' '.join(record.dns_search)}\n")
    if record.dns_options:
        kept.append(f"options {' '.join(record.dns_options)}\n")
    return kept


def _reachable(lines: Sequence[str]) -> Iterable[str]:
    return (line for line in lines if not line.startswith(_LOOPBACK))


def _host(text: str) -> tuple[str, str]:
    """Split "NAME:ADDRESS" (or docker's "NAME=ADDRESS")."""
    name, separator, address = text.partition("=" if "=" in text else ":")
    if not name or not separator or any(character.isspace() for character in text):
        raise UsageError(f"host {text!r} is not NAME:ADDRESS", hint="--add-host db:10.0.0.7, host:host-gateway")
    if address != "host-gateway":
        plain = address[1:-1] if address.startswith("[") and address.endswith("]") else address
        address = _ip(plain, f"host {text!r}: {address!r} is no address")
    return name, address


def _ip(text: str, problem: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise UsageError(problem) from None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UsageError(os_error_text(error)) from error
    return text if not text or text.endswith("\n") else text + "\n"
