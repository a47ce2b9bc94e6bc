"""What networks a new container is to be on, and where its ports lead."""

from __future__ import annotations

from dataclasses import replace

from backends.container import ContainerSpec
from backends.errors import NotFound, Unsupported, UsageError
from backends.native import nat, rootless, user_network
from backends.native.living import Living
from backends.native.networks import sharing
from backends.native.networks.joining import is_default_alone
from backends.native.options.networks import wanted
from backends.native.options.ports import LOOPBACK6, exposed_texts, parse_ports
from backends.native.record import ContainerRecord


class Connecting(Living):
    """Knows the networks of this host, for who makes containers."""

    def _network(self, asked: ContainerSpec) -> str:
        """Return what the record says. A plain user has no bridge, but maybe a program that speaks for him."""
        found = wanted(asked)
        if found.mode.startswith(sharing.PREFIX):
            return sharing.PREFIX + self._owner_of_network(found.mode.removeprefix(sharing.PREFIX))
        if found.mode != "bridge" or not rootless.is_inside():
            return found.mode
        if not is_default_alone(found.attachments):
            hint = "leave --network out (pasta or slirp4netns connects it), or run it as root"
            raise Unsupported("a plain user's container is on no network but the default one", hint=hint)
        if asked.publish:
            hint = "run it as root, or with --network host"
            raise Unsupported(f"port {asked.publish[0]!r} cannot be published by a plain user yet", hint=hint)
        return user_network.NETWORK if user_network.program() else "none"

    def _owner_of_network(self, name: str) -> str:
        guests = self._roster.guests()
        named = [each for each in guests if each.name == name]
        found = named or [each for each in guests if each.ref.id.startswith(name)]
        if len(found) != 1:
            raise NotFound(f"--network container:{name}: there is no such container")
        owner = self._store.record(found[0].ref.id)
        if owner.network == "host" or sharing.owner_of(owner):
            raise UsageError(f"--network container:{name}: that container has no network of its own")
        return owner.id

    def _published(self, record: ContainerRecord, asked: ContainerSpec) -> list[str]:
        """Return the ports that it publishes, each with one of the host. Raises UsageError."""
        to = nat.published(replace(record, publish=[]))
        exposed = exposed_texts(record.exposed, asked.publish) if asked.publish_all and to.address else []
        ports = parse_ports([*asked.publish, *exposed])
        for port in ports:
            if not to.address:
                raise UsageError(f"port {port.text}: no network that it is on has a way out, or in")
            if port.families() == (6,) and not to.address6 and port.address != LOOPBACK6:
                hint = "inn network create --ipv6 NAME, and --network NAME"
                raise UsageError(f"port {port.text}: it has no IPv6 address that this could lead to", hint=hint)
        if all(port.host for port in ports):
            return list(asked.publish)
        from backends.native.networks import free_ports

        others = (self._store.record(other).publish for other in self._store.ids())
        return free_ports.with_hosts([*asked.publish, *exposed], [text for texts in others for text in texts])
