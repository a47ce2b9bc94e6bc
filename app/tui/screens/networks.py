"""The networks that guests are on: members, addresses, ports, rates."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

from textual.binding import BindingType

from app.core.commands import COMMANDS
from app.tui.questions import ask_text, confirm, pick
from app.tui.screens.asset import AssetScreen
from app.tui.shelf import Shelf
from app.tui.views import command_bindings, command_hints
from backends.assets import Networks
from backends.model import Guest
from backends.network import Attachment, Network, NetworkSpec
from widgets.line import Line, Span, line
from widgets.network_lines import Flow, network_lines
from widgets.network_table import NetworkRow, NetworkTable
from widgets.text import clean, counted

_Key = tuple[str, str, str]
"""Backend, id of a network, and a guest on it; "": all of them together."""


class NetworkScreen(AssetScreen[NetworkRow]):
    """All networks of all backends that have some."""

    view_name = "networks"
    every_s = 2.0
    MORE_HINTS = (*command_hints("network"), ("Enter", "details"), ("/", "filter"), ("o", "sort"))
    BINDINGS: ClassVar[list[BindingType]] = [*command_bindings("network")]

    def make_table(self) -> NetworkTable:
        return NetworkTable(id="list")

    def make_shelf(self) -> Shelf[Network]:
        self._seen: dict[_Key, tuple[float, int, int]] = {}
        self._flows: dict[_Key, Flow] = {}
        return Shelf(self.innkeeper, self.roster, "networks", Networks, _read, self._listed)

    def _listed(self) -> None:
        """Two lists tell a rate."""
        assert self.shelf is not None
        now_s = time.monotonic()
        counted: dict[_Key, tuple[int, int]] = {}
        for name, networks in self.shelf.items.items():
            for network in networks:
                for guest, each in (("", network), *((member.guest, member) for member in network.members)):
                    if each.rx_bytes is not None and each.tx_bytes is not None:
                        counted[name, network.id, guest] = each.rx_bytes, each.tx_bytes
        for key in self._seen.keys() - counted.keys():
            del self._seen[key]
            self._flows.pop(key, None)
        for key, (rx_bytes, tx_bytes) in counted.items():
            self._look(key, rx_bytes, tx_bytes, now_s)
        self.show_list()

    def _look(self, key: _Key, rx_bytes: int, tx_bytes: int, now_s: float) -> None:
        before = self._seen.get(key)
        if before is not None and now_s - before[0] < 0.5:
            return
        self._seen[key] = (now_s, rx_bytes, tx_bytes)
        if before is not None:
            elapsed_s = now_s - before[0]
            # A guest that left takes its counters along: less than before is no traffic.
            rx, tx = max(0, rx_bytes - before[1]), max(0, tx_bytes - before[2])
            self._flows[key] = Flow(rx / elapsed_s, tx / elapsed_s)

    def rows(self) -> list[NetworkRow]:
        assert self.shelf is not None
        return [
            NetworkRow(
                name, network, self._flow(name, network).rx_bytes_per_s, self._flow(name, network).tx_bytes_per_s,
                self.shelf.is_stale(name),
            )
            for name, networks in self.shelf.items.items()
            for network in networks
        ]  # fmt: skip

    def _flow(self, backend: str, network: Network, guest: str = "") -> Flow:
        return self._flows.get((backend, network.id, guest), Flow())

    def backend_of(self, row: NetworkRow) -> str:
        return row.backend

    def name_of(self, row: NetworkRow) -> str:
        return row.network.name

    def detail_lines(self, row: NetworkRow, facts: Any, width: int) -> list[Line]:
        flows = {each.guest: self._flow(row.backend, row.network, each.guest) for each in row.network.members}
        return network_lines(row.network, self._flow(row.backend, row.network), flows, width)

    def summary(self) -> list[Span]:
        members = {(row.backend, member.guest) for row in self.table.rows for member in row.network.members}
        return [(f" {counted(len(self.table.rows), 'network')}, {counted(len(members), 'guest')} ", "dim")]

    # ---- verbs

    def do_network_create(self) -> None:
        backend = self.home("network.create")
        if backend is None:
            return

        def named(name: str) -> None:
            def subnet(text: str) -> None:
                subnets = tuple(text.replace(",", " ").split())
                spec = NetworkSpec(name, subnets, ipv6=any(":" in each for each in subnets))
                self.submit("network.create", backend.name, spec=spec)

            hint = "10.209.5.0/24, also with fd00:5::/64"
            label = f"Subnet of {clean(name)} (Enter: a free one):"
            ask_text(self.app, label, subnet, hint=hint, check=lambda text: "")

        ask_text(self.app, "Name of the new network:", named, hint="shop")

    def do_network_remove(self) -> None:
        rows = self.table.chosen
        if not self.can("network.remove", rows):
            return
        what = clean(rows[0].network.name) if len(rows) == 1 else f"{len(rows)} networks"
        members = [member.guest for row in rows for member in row.network.members]
        details = [line((COMMANDS["network.remove"].help, "dim"))]
        if members:
            details.append(line((f"! {', '.join(members[:5])} {'is' if len(members) == 1 else 'are'} on it", "warn")))

        def remove() -> None:
            for row in rows:
                self.submit("network.remove", row.backend, name=row.network.name)

        confirm(self.app, f"Remove {what}?", details, "remove", remove)

    def do_network_connect(self) -> None:
        rows = self.table.chosen[:1]
        if not self.can("network.connect", rows):
            return
        row = rows[0]
        there = {member.guest for member in row.network.members}
        guests = [each.guest for each in self.roster.rows if each.ref.backend == row.backend]
        free = [guest for guest in guests if guest.name not in there]

        def chosen(guest: Guest) -> None:
            self.actions.submit("network.connect", guest.ref, how=Attachment(row.network.name))

        self._pick(f"Connect to {clean(row.network.name)} which guest?", free, chosen, "every guest is on it")

    def do_network_disconnect(self) -> None:
        rows = self.table.chosen[:1]
        if not self.can("network.disconnect", rows):
            return
        row = rows[0]
        there = {member.guest for member in row.network.members}
        guests = [each.guest for each in self.roster.rows if each.ref.backend == row.backend]

        def chosen(guest: Guest) -> None:
            self.actions.submit("network.disconnect", guest.ref, network=row.network.name)

        on_it = [guest for guest in guests if guest.name in there]
        self._pick(f"Disconnect from {clean(row.network.name)} which guest?", on_it, chosen, "no guest is on it")

    def _pick(self, title: str, guests: Sequence[Guest], done: Any, nobody: str) -> None:
        if not guests:
            self.say(nobody)
            return

        lines = [line(guest.name, (f"  {guest.state.value}", "dim")) for guest in guests]
        pick(self.app, title, lines, lambda index: done(guests[index]))


def _read(backend: Networks) -> Sequence[Network]:
    return backend.networks()
