"""Networks: which there are, who is on them, and putting running containers on them and taking them off."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from backends.errors import AlreadyExists, InnkeeperError, NotFound, Unsupported, UsageError
from backends.kernel.procfs import LinkCounters
from backends.model import GuestRef, GuestState
from backends.native import nat, rootless
from backends.native.making import Making
from backends.native.network import tidy_bridge
from backends.native.networks import live
from backends.native.networks.endpoint import DEFAULT
from backends.native.networks.joining import join_one, leave
from backends.native.networks.network import StoredNetwork
from backends.native.options import names
from backends.native.options.networks import checked
from backends.native.record import ContainerRecord
from backends.native.resolver.offer import ask_to_look
from backends.native.spec import limits_of
from backends.native.store import read_file
from backends.network import Attachment, Network, NetworkMember, NetworkSpec
from backends.trace import Recorder

_LIVE = (GuestState.RUNNING, GuestState.PAUSED, GuestState.STOPPING)


class Networking(Making):
    """Fulfils backends.assets.Networks."""

    def networks(self) -> Sequence[Network]:
        """Return all networks, the default one first, with the containers on them."""
        if rootless.is_inside():
            return [Network(DEFAULT, DEFAULT, is_default=True), *_BUILT_IN]
        counters = LinkCounters()
        try:
            links = counters.read()
        finally:
            counters.close()
        members = self._members(links)
        found = [_shown(each, members.get(each.name, ())) for each in self._networks.all()]
        damaged = [
            Network(name, name, members=tuple(members.get(name, ())), note=note)
            for name, note in self._networks.damaged().items()
        ]
        return [*found, *damaged, *_BUILT_IN]

    def network_create(self, spec: NetworkSpec, recorder: Recorder) -> Network:
        """Make a network; its bridge comes up with the first container on it."""
        _check_rights()
        with self._store.making():
            made = self._networks.create(spec)
        self._journal.write(made.id, made.name, "network create")
        return _shown(made)

    def network_remove(self, name: str, recorder: Recorder) -> None:
        """Remove a network that nobody is on."""
        _check_rights()
        if name in ("host", "none"):
            raise UsageError(f"the network {name} cannot be removed: it is always there")
        with self._store.making():
            gone = self._networks.remove(name)
            if gone.bridge:
                tidy_bridge(self._store.run_dir, gone.bridge)
        self._journal.write(gone.id, gone.name, "network remove")

    def network_connect(self, ref: GuestRef, how: Attachment, recorder: Recorder) -> None:
        """Put a container on a further network, at once if it is live."""
        how = checked(how)
        with self._store.locked(ref.id), self._store.making():
            self._clean_if_lost(ref)
            before = self._store.record(ref.id)
            _check_own_network(before, "connect")
            network = self._networks.get(how.network).name
            if any(each.network == network for each in before.endpoints):
                raise AlreadyExists(f"{before.name} is on network {network} already")
            endpoint = join_one(self._networks, ref.id, how, before.endpoints)
            record = replace(before.with_endpoints([*before.endpoints, endpoint]), network="bridge")
            try:
                self._store.write_record(record)
                self._roster.forget(ref.id)
                if self._guest(ref).state in _LIVE:
                    keeper = Recorder("client", self._keeper(ref, recorder))
                    limits = limits_of(self._store.config(ref.id))
                    live.plug(self._store.run_dir, record, endpoint, self._store.status(ref.id), limits, keeper)
            except BaseException:
                self._store.write_record(before)
                leave(self._networks, [endpoint])
                raise
            self._rewrite_hosts(record, before)
            if before.network != record.network:
                self._have_names(record)
        self._journal.write(ref.id, record.name, "network connect", network=network)

    def _have_names(self, record: ContainerRecord) -> None:
        """Let a container that had no networks find the names of those that it has now."""
        with suppress(OSError, InnkeeperError):
            text = names.resolv_conf(record)
            _overwrite(self._store.folder(record.id) / "etc" / "resolv.conf", text)
        self._spawner.wake()
        ask_to_look(self._store.run_dir)

    def network_disconnect(self, ref: GuestRef, network: str, recorder: Recorder) -> None:
        """Take a container off a network, at once if it is live."""
        with self._store.locked(ref.id), self._store.making():
            self._clean_if_lost(ref)
            before = self._store.record(ref.id)
            _check_own_network(before, "disconnect")
            name = self._networks.get(network).name
            gone = next((each for each in before.endpoints if each.network == name), None)
            if gone is None:
                raise NotFound(f"{before.name} is not on network {name}")
            record = before.with_endpoints([each for each in before.endpoints if each != gone])
            self._store.write_record(record)
            self._roster.forget(ref.id)
            if self._guest(ref).state in _LIVE:
                keeper = Recorder("client", self._keeper(ref, recorder))
                live.unplug(self._store.run_dir, record, gone, self._store.status(ref.id), keeper)
            leave(self._networks, [gone])
            self._rewrite_hosts(record, before)
        self._journal.write(ref.id, record.name, "network disconnect", network=name)

    def _rewrite_hosts(self, record: ContainerRecord, before: ContainerRecord) -> None:
        """Have the container's own addresses in its /etc/hosts, which is bound: the file stays, its text changes."""
        path = self._store.folder(record.id) / "etc" / "hosts"
        old = {address for each in before.endpoints for address in each.addresses}
        new = [address for each in record.endpoints for address in each.addresses]
        with suppress(OSError, InnkeeperError):
            hostname = str(self._store.config(record.id).get("hostname") or record.id)
            lines = read_file(str(path)).splitlines(keepends=True)
            kept = [line for line in lines if re.split(r"\s", line, maxsplit=1)[0] not in old]
            _overwrite(path, "".join([*kept, *(f"{address}\t{hostname}\n" for address in new)]))

    def _members(self, links: Mapping[str, tuple[int, int]]) -> Mapping[str, list[NetworkMember]]:
        found: dict[str, list[NetworkMember]] = {}
        for guest in self._roster.guests():
            with suppress(InnkeeperError):
                record = self._store.record(guest.ref.id)
                to = nat.published(record)
                for each in record.endpoints:
                    is_live = guest.state in _LIVE
                    has_ports = to.address == each.address or (to.address6 and to.address6 == each.address6)
                    ports = guest.ports if has_ports and is_live else ()
                    link = each.link if is_live else ""
                    # What the host's end sends is what the guest receives.
                    sent, received = links.get(link, (None, None))
                    member = NetworkMember(
                        guest.name, each.addresses, each.aliases, ports, link, is_live, received, sent
                    )
                    found.setdefault(each.network, []).append(member)
        return found


_BUILT_IN = (
    Network("host", "host", "host", is_default=True),
    Network("none", "none", "none", is_default=True),
)


def _shown(network: StoredNetwork, members: Sequence[NetworkMember] = ()) -> Network:
    counted = [(each.rx_bytes or 0, each.tx_bytes or 0) for each in members if each.rx_bytes is not None]
    return Network(
        name=network.name,
        id=network.id,
        subnets=network.subnets,
        gateways=network.gateways,
        bridge=network.bridge,
        is_internal=network.internal,
        is_default=network.name == DEFAULT,
        created_s=network.created_s,
        members=tuple(members),
        rx_bytes=sum(received for received, _ in counted) if counted else None,
        tx_bytes=sum(sent for _, sent in counted) if counted else None,
        labels=network.labels,
    )


def _check_own_network(record: ContainerRecord, what: str) -> None:
    if record.network not in ("bridge", "none"):
        why = {"host": "its network is the host's", "user": "a plain user's containers are on no bridge"}
        reason = why.get(record.network, "its network is another container's")
        raise UsageError(f"cannot {what} {record.name}: {reason}")


def _check_rights() -> None:
    if rootless.is_inside():
        hint = "containers of a plain user have pasta's or slirp4netns's network, or the host's: --network host"
        raise Unsupported("networks can only be made by root: a plain user has no bridges", hint=hint)


def _overwrite(path: Path, text: str) -> None:
    """Replace the text of a file that others have bound or open: it stays the same file. Raises OSError."""
    with open(path, "r+b", buffering=0) as file:
        file.write(text.encode())
        file.truncate()
