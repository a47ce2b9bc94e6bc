"""All networks that guests can be on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from backends.network import Network
from widgets.line import Span
from widgets.list_table import ListColumn, ListTable
from widgets.units import UNKNOWN, rate


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """One network, ready to be shown."""

    backend: str
    network: Network
    rx_bytes_per_s: float | None = None
    tx_bytes_per_s: float | None = None
    is_stale: bool = False
    """Its backend does not answer: this is what it said last."""


def _kind(network: Network) -> str:
    return network.driver + (", no way out" if network.is_internal else "")


def _members(row: NetworkRow) -> Span:
    live = sum(member.is_live for member in row.network.members)
    if not row.network.members:
        return "nobody", "dim"
    return f"{len(row.network.members)}, {live} live", ""


class NetworkTable(ListTable[NetworkRow]):
    """One row a network."""

    empty_text = "no networks"
    filter_hint = "shop  !bridge  driver:bridge  internal:yes"
    columns: ClassVar[tuple[ListColumn[NetworkRow], ...]] = (
        ListColumn("name", "NAME", "n", 16, "its name",
                   lambda row: (row.network.name, "dim" if row.is_stale else "strong"),
                   lambda row: (not row.network.is_default, row.network.name.casefold()), most=32),
        ListColumn("driver", "DRIVER", "d", 19, "how it is made; whether guests reach the world over it",
                   lambda row: (_kind(row.network), ""), lambda row: _kind(row.network), priority=2),
        ListColumn("subnet", "SUBNET", "s", 16, "its addresses", lambda row: (", ".join(row.network.subnets), ""),
                   lambda row: row.network.subnets, most=40),
        ListColumn("gateway", "GATEWAY", "g", 14, "the host's addresses on it",
                   lambda row: (", ".join(row.network.gateways), "dim"), lambda row: row.network.gateways,
                   priority=3, most=32),
        ListColumn("members", "GUESTS", "m", 11, "the guests on it", _members,
                   lambda row: len(row.network.members), largest_first=True),
        ListColumn("rx", "RECV/s", "r", 7, "what its guests receive", lambda row: (rate(row.rx_bytes_per_s), "net"),
                   lambda row: row.rx_bytes_per_s, right=True, priority=1, largest_first=True),
        ListColumn("tx", "SEND/s", "t", 7, "what its guests send", lambda row: (rate(row.tx_bytes_per_s), "net"),
                   lambda row: row.tx_bytes_per_s, right=True, priority=1, largest_first=True),
        ListColumn("bridge", "LINK", "l", 15, "its link on the host, while somebody is on it",
                   lambda row: (row.network.bridge or UNKNOWN, "dim"), lambda row: row.network.bridge, priority=5),
        ListColumn("backend", "BACKEND", "b", 9, "who keeps it", lambda row: (row.backend, "dim"),
                   lambda row: row.backend, priority=4),
    )  # fmt: skip

    def key_of(self, row: NetworkRow) -> Hashable:
        return row.backend, row.network.name

    def words_of(self, row: NetworkRow) -> str:
        return " ".join((row.network.name, *row.network.subnets, *(member.guest for member in row.network.members)))

    def properties_of(self, row: NetworkRow) -> Mapping[str, str]:
        internal = "yes" if row.network.is_internal else "no"
        return {"driver": row.network.driver, "internal": internal, "backend": row.backend}
