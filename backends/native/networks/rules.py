"""The nftables table of a state folder, as text: what passes, where published ports lead, and the way out. Pure.

A packet to a published port is sent on to the container wherever it comes from: other hosts (prerouting), this host
and its loopback (output; the bridges have route_localnet for that, and packets of containers to 127.0.0.0/8 are
dropped, which else would reach what listens there), and the bridges themselves. Between two networks of ours nothing
passes but that; docs/decisions/network-isolation.md says why each rule is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backends.native.options.ports import LOOPBACK6, Port

_OURS = ("inn0", "inn-*")
"""Bridges of every state folder on this host."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge that is up."""

    name: str
    subnet: str
    subnet6: str = ""
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """Ports that lead to a container."""

    container_id: str
    address: str
    address6: str
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """Links between which the host did not forward before we turned forwarding on, by family."""

    ipv4: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()


def table_text(table: str, bridges: Sequence[Bridge], published: Sequence[Published], closed: Closed = Closed()) -> str:
    """Return the commands that put the table in the place of what was there."""
    everywhere: list[str] = []
    loopback: list[str] = []
    for each in published:
        for port in sorted(each.ports, key=lambda port: port.address in ("", "0.0.0.0", "::")):
            is_inside = port.address.startswith("127.")
            (loopback if is_inside else everywhere).extend(port_rules(port, each))
    names = _set(bridge.name for bridge in bridges)
    chains = {
        "guard": ["type filter hook prerouting priority raw; policy accept;",
                  f"iifname {names} ip daddr 127.0.0.0/8 drop"],
        "published": everywhere,
        "loopback": loopback,
        "incoming": ["type nat hook prerouting priority dstnat; policy accept;",
                     "ip daddr 127.0.0.0/8 return",
                     "fib daddr type local jump published"],
        # Nothing that ::1 sends can leave for a container and find its way back: there the relay listens.
        "own": ["type nat hook output priority -100; policy accept;",
                "ip6 daddr ::1 return",
                "fib daddr type local jump loopback",
                "fib daddr type local jump published"],
        "out": ["type nat hook postrouting priority srcnat; policy accept;", *_masquerading(bridges, names)],
        "forward": ["type filter hook forward priority filter; policy accept;", *_forwarding(bridges, closed)],
    }  # fmt: skip
    body = "".join(f"  chain {name} {{\n" + "".join(f"    {rule}\n" for rule in rules) + "  }\n"
                   for name, rules in chains.items())  # fmt: skip
    return f"add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n{body}}}\n"


def port_rules(port: Port, to: Published) -> list[str]:
    """Return the rules of one port: one of each family in which it is published and the container has an address."""
    if port.address == LOOPBACK6:
        return []
    found = []
    for family in port.families():
        ip, address = ("ip", to.address) if family == 4 else ("ip6", to.address6)
        if not address:
            continue
        is_all = port.address in ("", "0.0.0.0", "::")
        at = f"meta nfproto ipv{family}" if is_all else f"{ip} daddr {port.address}"
        target = f"[{address}]" if family == 6 else address
        rule = f"{at} {port.protocol} dport {port.host} dnat {ip} to {target}:{port.guest}"
        found.append(f'{rule} comment "{to.container_id}"')
    return found


def _masquerading(bridges: Sequence[Bridge], names: str) -> Iterator[str]:
    families = [(ip, subnet, each) for each in bridges for ip, subnet in (("ip", each.subnet), ("ip6", each.subnet6))]
    for ip, subnet, each in families:  # back to where it came from: else the answer would go there directly
        if subnet:
            yield f'{ip} saddr {subnet} oifname "{each.name}" ct status dnat masquerade'
    yield f"ip saddr 127.0.0.0/8 oifname {names} masquerade"
    yield f"oifname {names} return"
    for ip, subnet, each in families:
        if subnet and not each.internal:
            yield f'{ip} saddr {subnet} oifname != "{each.name}" masquerade'


def _forwarding(bridges: Sequence[Bridge], closed: Closed) -> Iterator[str]:
    for each in bridges:  # with br_netfilter even what stays on one bridge comes by here
        yield f'iifname "{each.name}" oifname "{each.name}" accept'
    if internal := [each.name for each in bridges if each.internal]:
        yield f"iifname {_set(internal)} drop"
        yield f"oifname {_set(internal)} drop"
    names = _set(each.name for each in bridges)
    for side in ("iifname", "oifname"):
        yield f"{side} {names} ct state established,related accept"
        yield f"{side} {names} ct status dnat accept"
    yield f"oifname {names} drop"
    for name in _OURS:
        yield f'iifname {names} oifname "{name}" drop'
    yield f"iifname {names} accept"
    for family, links in (("ipv4", closed.ipv4), ("ipv6", closed.ipv6)):
        if links:
            yield f"meta nfproto {family} iifname {_set(links)} oifname {_set(links)} drop"


def _set(names: Sequence[str] | Iterator[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"{{ {quoted} }}"
