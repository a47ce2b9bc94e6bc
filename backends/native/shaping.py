"""Limits of what containers send and receive, as traffic control of both ends of their links.

What a container receives is what the host's end of its link sends: rate, delay, jitter and loss are set there, where
nothing in the container reaches. What it sends is held back at its own end, in its network namespace: a full queue
there makes the sender wait, where one behind it would drop. docs/decisions/traffic-control.md says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backends.errors import NotFound, Unsupported, UsageError
from backends.kernel import traffic
from backends.kernel.traffic import Shape, ShapeLink
from backends.model import LimitChanges, LimitEvidence, Limits
from backends.native import rootless
from backends.native.record import ContainerRecord
from backends.trace import Step

RECEIVING = ("net_rx_bytes_per_s", "net_delay_s", "net_jitter_s", "net_loss_pct")
FIELDS = (*RECEIVING, "net_tx_bytes_per_s")


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of one link of a container."""

    host: str
    guest: str
    """Its name inside."""


def links(record: ContainerRecord) -> list[Ends]:
    """Return the links that a container has while it lives."""
    return [Ends(each.link, each.ifname) for each in record.endpoints]


def receiving(limits: Limits) -> Shape:
    """Return what is asked of the host's end."""
    return Shape(
        limits.net_rx_bytes_per_s,
        limits.net_delay_s or 0.0,
        limits.net_jitter_s or 0.0,
        limits.net_loss_pct or 0.0,
    )


def sending(limits: Limits) -> Shape:
    """Return what is asked of the container's end."""
    return Shape(limits.net_tx_bytes_per_s)


def host_steps(ends: Iterable[Ends], limits: Limits) -> list[Step]:
    """Return what is done to the host's ends of new links."""
    shape = receiving(limits)
    return [] if shape.is_free else [ShapeLink(end.host, shape) for end in ends]


def guest_steps(ends: Iterable[Ends], limits: Limits) -> list[Step]:
    """Return what is done to the other ends, inside."""
    shape = sending(limits)
    return [] if shape.is_free else [ShapeLink(end.guest, shape) for end in ends]


def live_steps(ends: Iterable[Ends], pid: int, before: Limits, after: Limits) -> list[Step]:
    """Return what changes the links of a live container whose first process is pid."""
    incoming, outgoing = (receiving(before), receiving(after)), (sending(before), sending(after))
    if incoming[0] == incoming[1] and outgoing[0] == outgoing[1]:
        return []
    from backends.kernel.traffic_live import ChangeShape  # and pyroute2, when it runs

    steps: list[Step] = []
    for end in ends:
        if incoming[0] != incoming[1]:
            steps.append(ChangeShape(end.host, 0, *incoming))
        if outgoing[0] != outgoing[1]:
            steps.append(ChangeShape(end.guest, pid, *outgoing))
    return steps


def evidence(ends: Iterable[Ends], pid: int, limits: Limits) -> Mapping[str, LimitEvidence]:
    """Return what the kernel counted for each limit that is set; of several links the sum."""
    from backends.kernel.traffic_live import Counters, counters

    wanted = [name for name in FIELDS if getattr(limits, name)]
    host, guest = Counters(), Counters()
    for end in ends if wanted else ():
        try:
            if any(name in RECEIVING for name in wanted):
                host = host.plus(counters(end.host))
            if "net_tx_bytes_per_s" in wanted:
                guest = guest.plus(counters(end.guest, pid))
        except NotFound:  # it is just ending
            continue
    sides = {name: host if name in RECEIVING else guest for name in wanted}
    return {name: LimitEvidence(side.held_back, side.dropped, side.waiting_bytes) for name, side in sides.items()}


def reasons(record: ContainerRecord | None = None) -> dict[str, str]:
    """Map each field to "" or why it cannot be set: on this host, or for one container."""
    if record is not None and not has_links(record.network):
        why = f"with --network {record.network} it has no link of its own"
        return dict.fromkeys(FIELDS, why)
    if rootless.is_inside():
        return dict.fromkeys(FIELDS, "a plain user's containers have no link that could be limited")
    no_rate, no_netem = traffic.why_no_rate(), traffic.why_no_netem()
    return {
        "net_rx_bytes_per_s": no_rate,
        "net_tx_bytes_per_s": no_rate,
        "net_delay_s": no_netem,
        "net_jitter_s": no_netem,
        "net_loss_pct": "",
    }


def has_links(network: str) -> bool:
    """Say whether a container that asked for this network has links that are its own."""
    return network not in ("none", "host", "user") and not network.startswith("container:")


def check(limits: Limits, network: str) -> None:
    """Raise Unsupported or UsageError for limits that a container on that network cannot have."""
    for name in FIELDS:
        value = getattr(limits, name)
        if not value:
            continue
        if not has_links(network):
            raise Unsupported(f"cannot limit {name}: with --network {network} it has no link of its own")
        if name.endswith("bytes_per_s") and value > traffic.MOST_BYTES_PER_S:
            raise UsageError(f"cannot limit {name} to {value}: at most {traffic.MOST_BYTES_PER_S} bytes per second")


def warnings(name: str, capabilities: Sequence[str], changes: LimitChanges) -> list[str]:
    """Say that a container could lift what is set at its own end."""
    if changes.get("net_tx_bytes_per_s") is None or "CAP_NET_ADMIN" not in capabilities:
        return []
    return [f"{name} has CAP_NET_ADMIN: its root can lift the limit on what it sends"]
