"""The networks of a state folder.

::

    STATE/network.json             subnet of the default network, chosen when it is first needed
    STATE/leases/ADDRESS           its addresses (pool.py)
    STATE/networks/NAME/           network.json leases/: a network that a user made
    STATE/networks/.lock           held while a network is made or removed, and while an address is taken on one

A network appears and vanishes by rename of its folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backends.errors import AlreadyExists, Busy, Damaged, InnkeeperError, NotFound, UsageError
from backends.kernel import netlink
from backends.native.locking import locked
from backends.native.networks import subnets
from backends.native.networks.endpoint import DEFAULT
from backends.native.networks.network import StoredNetwork
from backends.native.networks.pool import AddressPool
from backends.native.store import write_file
from backends.network import NetworkSpec

RESERVED = (DEFAULT, "default", "none", "host", "container", "user")
_FILE, _LEASES, _LOCK = "network.json", "leases", ".lock"
_MANY_TRIES = 20


class NetworkStore:
    """What is kept of networks."""

    def __init__(self, state_dir: Path, bridge: str) -> None:
        """bridge: that of the default network."""
        self._state_dir, self._bridge = state_dir, bridge
        self._folder = state_dir / "networks"

    def default(self) -> StoredNetwork:
        """Return the default network, whose subnet is chosen when it is first asked for."""
        path = self._state_dir / _FILE
        if not path.exists():
            with locked(self._state_dir / "network.lock"):
                if not path.exists():
                    taken = [*netlink.taken_subnets(), *(text for each in self.made() for text in each.subnets)]
                    subnet = subnets.free(taken, self._bridge, is_first=self._bridge == "inn0")
                    write_file(path, json.dumps({"subnet": str(subnet), "bridge": self._bridge}))
        try:
            subnet_text = json.loads(path.read_text())["subnet"]
            first = subnet_text.rpartition(".")[0] + ".1"  # a /24
            return StoredNetwork(DEFAULT, DEFAULT, self._bridge, subnet_text, first)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{path} is damaged: {error}", hint=f"delete {path} while no container runs") from error

    def get(self, name: str) -> StoredNetwork:
        """Return a network by its name, or the beginning of its id. Raises NotFound, Damaged."""
        if name in (DEFAULT, "default"):
            return self.default()
        if "/" not in name and not name.startswith("."):
            with suppress(FileNotFoundError):
                return self._read(name)
        found = [each for each in self.made() if name and each.id.startswith(name)]
        if len(found) == 1:
            return found[0]
        raise NotFound(f"no network {name}", hint=f"inn network ls lists them, inn network create {name} makes it")

    def all(self) -> list[StoredNetwork]:
        """Return all networks, the default one first."""
        return [self.default(), *self.made()]

    def pool(self, name: str) -> AddressPool:
        """Return the addresses of a network."""
        return AddressPool(self._state_dir / _LEASES if name == DEFAULT else self._folder / name / _LEASES)

    def pools(self) -> list[tuple[str, AddressPool]]:
        """Return the addresses of all networks, by name; none is made for it."""
        return [(name, self.pool(name)) for name in (DEFAULT, *self._names())]

    @contextmanager
    def leasing(self, name: str) -> Iterator[StoredNetwork]:
        """Yield a network that stays there meanwhile. Raises NotFound."""
        if name in (DEFAULT, "default"):  # which cannot be removed
            yield self.default()
            return
        with self._locked():
            yield self.get(name)

    def create(self, spec: NetworkSpec) -> StoredNetwork:
        """Make a network. Raises AlreadyExists, UsageError."""
        from backends.native.spec import check_name

        check_name(spec.name)
        if spec.name in RESERVED:
            raise UsageError(f"no network can be named {spec.name}: that name has a meaning of its own")
        default = self.default()  # before the lock: it takes its own
        with self._locked():
            if (self._folder / spec.name).exists():
                raise AlreadyExists(f"network {spec.name} is there already")
            network = self._chosen(spec, [default, *self.made()])
            draft = self._folder / f".{network.id}"
            (draft / _LEASES).mkdir(mode=0o700, parents=True)
            try:
                write_file(draft / _FILE, network.to_json())
                draft.rename(self._folder / network.name)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
        return network

    def remove(self, name: str) -> StoredNetwork:
        """Remove a network on which nobody has an address. Raises NotFound, Busy, UsageError."""
        if name in (DEFAULT, "default"):
            raise UsageError(f"the network {DEFAULT} cannot be removed: it is the default one")
        with self._locked():
            network = self._named_though_damaged(name)
            if self.pool(network.name).leases():
                hint = f"inn network inspect {network.name} says which; inn network disconnect takes them off"
                raise Busy(f"cannot remove network {network.name}: there are containers on it", hint=hint)
            grave = self._folder / f".{network.id}"
            (self._folder / network.name).rename(grave)
        shutil.rmtree(grave, ignore_errors=True)
        return network

    def _named_though_damaged(self, name: str) -> StoredNetwork:
        """Return a network by its name; of one that is damaged nothing else is known. Raises NotFound."""
        try:
            return self.get(name)
        except Damaged:
            return StoredNetwork(name, secrets.token_hex(6), bridge="", subnet="", gateway="")

    def half_made(self) -> list[Path]:
        """Return folders that a crash left behind; true only while nobody makes or removes anything."""
        names = os.listdir(self._folder) if self._folder.is_dir() else []
        return [self._folder / name for name in names if name.startswith(".") and name != _LOCK]

    def _chosen(self, spec: NetworkSpec, others: list[StoredNetwork]) -> StoredNetwork:
        asked4, asked6 = subnets.asked(spec)
        routes = netlink.taken_subnets()
        known = [(each.name, each.subnets) for each in others]
        for subnet in (asked4, asked6):
            if subnet is not None:
                subnets.check_free(subnet, known, routes)
        taken = [*routes, *(text for _, texts in known for text in texts)]
        ipv4 = asked4 or subnets.free(taken, str(self._state_dir) + spec.name, is_first=False)
        ipv6 = asked6
        network_id = secrets.token_hex(6)
        if ipv6 is None and spec.ipv6:
            ipv6 = subnets.unique_local(f"{self._state_dir} {network_id}")
        if ipv6 is not None and not Path("/proc/sys/net/ipv6").exists():
            raise UsageError(f"network {spec.name}: this kernel has no IPv6")
        gateways = subnets.gateways(spec, [ipv4, *([ipv6] if ipv6 else [])])
        return StoredNetwork(
            name=spec.name,
            id=network_id,
            bridge=self._free_bridge(network_id),
            subnet=str(ipv4),
            gateway=gateways[0],
            subnet6=str(ipv6) if ipv6 else "",
            gateway6=gateways[1] if ipv6 else "",
            ip_range=subnets.ip_range(spec, ipv4),
            internal=spec.internal,
            labels=dict(spec.labels),
            created_s=time.time(),
        )

    def _free_bridge(self, network_id: str) -> str:
        name = f"inn-{network_id[:8]}"
        for _ in range(_MANY_TRIES):
            if not netlink.link_exists(name):
                return name
            name = f"inn-{secrets.token_hex(4)}"
        raise InnkeeperError("no name is free for its bridge")

    def made(self) -> list[StoredNetwork]:
        """Return the networks that users made, by name; without those that are damaged."""
        found = []
        for name in self._names():
            with suppress(FileNotFoundError, Damaged):
                found.append(self._read(name))
        return found

    def damaged(self) -> dict[str, str]:
        """Return the names of networks whose files are damaged, and what is wrong with each."""
        found = {}
        for name in self._names():
            try:
                self._read(name)
            except Damaged as error:
                found[name] = error.message
            except FileNotFoundError:  # just removed
                continue
        return found

    def _names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._folder) if not name.startswith("."))
        except FileNotFoundError:
            return []

    def _read(self, name: str) -> StoredNetwork:
        path = self._folder / name / _FILE
        try:
            return StoredNetwork.from_json(path.read_text())
        except (ValueError, TypeError, AttributeError) as error:
            hint = f"mend {path}, or inn network rm {name}"
            raise Damaged(f"network {name}: {_FILE} is damaged: {error}", hint=hint) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with locked(self._folder / _LOCK):
            yield
