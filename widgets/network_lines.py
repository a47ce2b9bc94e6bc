"""All that is known of one network, and who is on it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from backends.model import short_ports
from backends.network import Network, NetworkMember
from widgets.line import EMPTY, Line, line, wrap
from widgets.text import clean, fit
from widgets.units import UNKNOWN, rate, size

LABEL = 14


@dataclass(frozen=True, slots=True)
class Flow:
    """What a guest moves; None where unknown."""

    rx_bytes_per_s: float | None = None
    tx_bytes_per_s: float | None = None


NO_FLOW = Flow()


def network_lines(network: Network, whole: Flow, flows: Mapping[str, Flow], width: int) -> list[Line]:
    """Return the lines; `flows` by the guests' names."""
    lines = [line((network.name, "title"), ("  always there" if network.is_default else "", "dim"))]
    if network.note:
        lines += wrap(line((f"! {clean(network.note)}", "warn")), width, 2)
    inside = ", no way out" if network.is_internal else ""
    lines.append(_label("Driver", network.driver + inside))
    lines += wrap(_label("Subnets", ", ".join(network.subnets)), width, LABEL)
    lines += wrap(_label("Gateways", ", ".join(network.gateways)), width, LABEL)
    if network.bridge:
        lines.append(_label("Link", network.bridge))
    lines.append(_label("Id", network.id))
    if network.created_s is not None and not network.is_default:
        lines.append(_label("Made", time.strftime("%Y-%m-%d %H:%M", time.localtime(network.created_s))))
    moved = f"received {size(network.rx_bytes)}, sent {size(network.tx_bytes)}"
    if network.rx_bytes is not None:
        lines.append(_label("Traffic", f"{moved}; now {_pace(whole)}"))
    for key, value in sorted(network.labels.items()):
        lines += wrap(_label("Label", f"{key}={value}"), width, LABEL)
    return [*lines, EMPTY, *member_lines(network, flows, width)]


def member_lines(network: Network, flows: Mapping[str, Flow], width: int) -> list[Line]:
    """One line a guest, and more where its aliases and ports do not fit."""
    if not network.members:
        return [line(("No guest is on it", "head"))]
    name = max(8, min(28, max(len(member.guest) for member in network.members)))
    address = max(16, min(40, max(len(_addresses(member)) for member in network.members)))
    head = f"  {'GUEST':<{name}} {'ADDRESSES':<{address}} {'RECV/s':>7} {'SEND/s':>7}  PORTS AND OTHER NAMES"
    lines = [line((f"Guests on it: {len(network.members)}", "head")), line((head, "dim"))]
    for member in network.members:
        flow = flows.get(member.guest, NO_FLOW) if member.is_live else NO_FLOW
        more = [short_ports(member.ports)] if member.ports else []
        more += ["also " + ", ".join(member.aliases)] if member.aliases else []
        lead = line(
            "  ",
            (fit(clean(member.guest), name) + " ", "strong" if member.is_live else "dim"),
            (fit(clean(_addresses(member)), address) + " ", "" if member.is_live else "dim"),
            (f"{rate(flow.rx_bytes_per_s):>7} {rate(flow.tx_bytes_per_s):>7}  ", "net" if member.is_live else "dim"),
            ("; ".join(more) if member.is_live or not more else "; ".join(more) + " when it runs", ""),
        )
        lines += wrap(lead, max(50, width), 4)
    return lines


def _addresses(member: NetworkMember) -> str:
    return ", ".join(member.addresses) or UNKNOWN


def _pace(flow: Flow) -> str:
    return f"{rate(flow.rx_bytes_per_s)}/s in, {rate(flow.tx_bytes_per_s)}/s out"


def _label(title: str, text: str) -> Line:
    return line((fit(title, LABEL), "dim"), text or UNKNOWN)
