"""All simulated networks and who is on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from backends.errors import AlreadyExists, Busy, NotFound, UsageError, WrongState
from backends.network import Attachment, Network, NetworkMember, NetworkSpec
from backends.simulated.gallery import digest_of
from backends.simulated.machine import Machine, Moment

POOL = IPv4Network("10.64.0.0/12")
"""Subnets that nobody names are taken from here."""


@dataclass(slots=True)
class Net:
    """One network in memory."""

    spec: NetworkSpec
    driver: str
    created_s: float
    is_default: bool = False
    members: dict[str, tuple[Machine, Attachment, tuple[str, ...]]] = field(default_factory=dict)
    """Machine id → who, how, with which addresses."""

    @property
    def id(self) -> str:
        """Its lasting id."""
        return digest_of("network", self.spec.name, self.created_s).removeprefix("sha256:")[:12]


class Fabric:
    """Networks by name. The world's lock guards it."""

    def __init__(self) -> None:
        self.nets: dict[str, Net] = {}

    def populate(self, machines: Iterable[Machine], now_s: float) -> None:
        """Make the first networks and put the first containers on them."""
        for name, driver in (("bridge", "bridge"), ("host", "host"), ("none", "none")):
            subnets = ("10.23.0.0/16",) if name == "bridge" else ()
            self.nets[name] = Net(NetworkSpec(name, subnets, _firsts(subnets)), driver, now_s, is_default=True)
        self.add(NetworkSpec("shop", ("10.50.0.0/24", "fd50::/64"), ipv6=True), now_s - 86_400 * 3)
        self.add(NetworkSpec("storage", ("10.51.0.0/24",), internal=True), now_s - 86_400)
        for index, machine in enumerate(machines):
            self.attach(machine, "bridge", Attachment("bridge"))
            if index % 3 == 0:
                self.attach(machine, "shop", Attachment("shop", aliases=(f"{machine.image}.shop",)))
            if index % 4 == 1:
                self.attach(machine, "storage", Attachment("storage"))

    def get(self, name: str) -> Net:
        """Return one by name or id. Raises NotFound."""
        found = self.nets.get(name) or next((net for net in self.nets.values() if net.id == name), None)
        if found is None:
            raise NotFound(f"there is no network {name!r}", hint="known: " + ", ".join(self.nets))
        return found

    def add(self, spec: NetworkSpec, now_s: float) -> Net:
        """Make one. Raises AlreadyExists, UsageError."""
        if not spec.name:
            raise UsageError("a network needs a name")
        if spec.name in self.nets:
            raise AlreadyExists(f"there is already a network {spec.name!r}")
        subnets = spec.subnets or (str(self._free()),)
        taken = [(net, _parsed(text)) for net in self.nets.values() for text in net.spec.subnets]
        for text in subnets:
            mine = _parsed(text)
            for net, other in taken:
                if mine.version == other.version and mine.overlaps(other):
                    raise UsageError(f"subnet {text} overlaps with {other} of network {net.spec.name}")
        if spec.ipv6 and not any(":" in text for text in subnets):
            subnets = (*subnets, f"fd00:{len(self.nets):x}::/64")
        gateways = spec.gateways or _firsts(subnets)
        made = NetworkSpec(spec.name, subnets, gateways, spec.ip_range, spec.ipv6, spec.internal, dict(spec.labels))
        self.nets[spec.name] = Net(made, "bridge", now_s)
        return self.nets[spec.name]

    def remove(self, name: str) -> None:
        """Remove one. Raises Busy, NotFound, WrongState."""
        net = self.get(name)
        if net.is_default:
            raise WrongState(f"cannot remove network {name}: it is always there")
        if net.members:
            users = ", ".join(sorted(machine.name for machine, _, _ in net.members.values()))
            raise Busy(f"cannot remove network {name}: {users} {'is' if len(net.members) == 1 else 'are'} on it")
        del self.nets[net.spec.name]

    def attach(self, machine: Machine, name: str, how: Attachment) -> None:
        """Put a guest on one. Raises AlreadyExists, UsageError, NotFound."""
        net = self.get(name)
        if machine.ref.id in net.members:
            raise AlreadyExists(f"{machine.name} is on network {name} already")
        net.members[machine.ref.id] = (machine, how, self._addresses(net, machine, how))
        self._tell(machine)

    def attach_as(self, model: Machine, machine: Machine) -> None:
        """Put a guest on the networks that another is on."""
        for name, net in self.nets.items():
            if model.ref.id in net.members:
                self.attach(machine, name, Attachment(name))

    def detach(self, machine: Machine, name: str) -> None:
        """Take a guest off one. Raises NotFound."""
        net = self.get(name)
        if net.members.pop(machine.ref.id, None) is None:
            raise NotFound(f"{machine.name} is not on network {name}")
        self._tell(machine)

    def forget(self, machine: Machine) -> None:
        """A guest is gone."""
        for net in self.nets.values():
            net.members.pop(machine.ref.id, None)

    def networks(self, now: Moment) -> list[Network]:
        """Return all as others see them."""
        return [self.network(net, now) for net in self.nets.values()]

    def network(self, net: Net, now: Moment) -> Network:
        """Return one as others see it."""
        members = sorted((self._member(net, *each, now) for each in net.members.values()), key=lambda one: one.guest)
        moved = [(each.rx_bytes or 0, each.tx_bytes or 0) for each in members if each.is_live]
        return Network(
            name=net.spec.name, id=net.id, driver=net.driver, subnets=net.spec.subnets, gateways=net.spec.gateways,
            bridge=f"sim-{net.id[:6]}" if net.driver == "bridge" else "", is_internal=net.spec.internal,
            is_default=net.is_default, created_s=net.created_s, members=tuple(members),
            rx_bytes=sum(received for received, _ in moved) if moved else None,
            tx_bytes=sum(sent for _, sent in moved) if moved else None,
            labels=net.spec.labels,
        )  # fmt: skip

    def _member(
        self, net: Net, machine: Machine, how: Attachment, addresses: tuple[str, ...], now: Moment
    ) -> NetworkMember:
        """Each of its networks has the same share of what it moves."""
        is_live, sample, share = machine.state.is_live, machine.sample(now), max(1, len(machine.networks))
        ports = machine.ports if next(iter(machine.networks), "") == net.spec.name else ()
        return NetworkMember(
            machine.name, addresses, how.aliases, ports, f"sim{machine.ref.id[:8]}" if is_live else "", is_live,
            rx_bytes=None if sample is None else (sample.net_rx_bytes or 0) // share,
            tx_bytes=None if sample is None else (sample.net_tx_bytes or 0) // share,
        )  # fmt: skip

    def _addresses(self, net: Net, machine: Machine, how: Attachment) -> tuple[str, ...]:
        taken = {address for _, _, addresses in net.members.values() for address in addresses} | {*net.spec.gateways}
        found: list[str] = []
        for text in net.spec.subnets:
            subnet = _parsed(text)
            asked = how.ip if subnet.version == 4 else how.ip6
            own = machine.address if net.spec.name == "bridge" and machine.address not in taken else ""
            chosen = asked or own or next(str(host) for host in subnet.hosts() if str(host) not in taken)
            try:
                inside = ip_address(chosen) in subnet
            except ValueError as error:
                raise UsageError(f"{chosen!r} is no address") from error
            if not inside or chosen in taken:
                raise UsageError(f"address {chosen} is {'taken' if inside else 'not in ' + text}")
            found.append(chosen)
        return tuple(found)

    def _tell(self, machine: Machine) -> None:
        machine.networks = tuple(name for name, net in self.nets.items() if machine.ref.id in net.members)
        machine.changed()

    def _free(self) -> IPv4Network:
        taken = [_parsed(text) for net in self.nets.values() for text in net.spec.subnets]
        fours = [subnet for subnet in taken if isinstance(subnet, IPv4Network)]
        return next(each for each in POOL.subnets(new_prefix=24) if not any(each.overlaps(other) for other in fours))


def _parsed(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no subnet: {error}") from error


def _firsts(subnets: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(_parsed(text).network_address + 1) for text in subnets)
