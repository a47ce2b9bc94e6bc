"""Way out, published ports and what is let through: one nftables table of our own for each state folder.

The table is written anew as a whole, in one transaction, from what is on record of each bridge that is up and each
container that publishes something (networks/rules.py makes the text); tables of others are never touched.

::

    RUN/bridges/NAME   {"subnet": …, "subnet6": …, "internal": …} of each bridge that is up
    RUN/ports/ID       {"address": …, "address6": …, "ports": [[host, guest, protocol, address], …]} while the
                       container has its links
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from backends.errors import InnkeeperError, StartFailed, Unsupported
from backends.kernel import conntrack, netlink, nft
from backends.kernel.mounts import KernelStep
from backends.native.locking import locked
from backends.native.networks import forwarding
from backends.native.networks.endpoint import Endpoint
from backends.native.networks.rules import Bridge, Published, port_rules, table_text
from backends.native.options.ports import Port, collide, parse_ports
from backends.native.record import ContainerRecord
from backends.native.store import write_file

_SOCKETS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}
_RULE = re.compile(r"(?:meta nfproto (ipv[46])|ip6? daddr (\S+)) (tcp|udp|sctp) dport (\d+) dnat")
_FAMILIES = {4: (socket.AF_INET, "0.0.0.0"), 6: (socket.AF_INET6, "::")}


def table_name(run_dir: Path) -> str:
    """Return the name of the table of a state folder."""
    digits = hashlib.sha256(str(run_dir).encode()).hexdigest()[:8]
    return "innkeeper" if str(run_dir) == "/run/innkeeper" else f"innkeeper_{digits}"


def shown(ports: Sequence[Port]) -> tuple[str, ...]:
    """Return ports as Guest.ports has them: "127.0.0.1:8080->80/tcp", "[::1]:8080->80/tcp"."""
    found = []
    for port in ports:
        at = f"[{port.address}]:" if ":" in port.address else f"{port.address}:" if port.address else ""
        found.append(f"{at}{port.host}->{port.guest}/{port.protocol}")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class OpenWayOut(KernelStep):
    """Let what is on some bridges out under the host's address, and lead ports of the host to a container on them."""

    run_dir: Path
    bridges: tuple[Bridge, ...]
    to: Published
    is_live: bool = False
    """The container runs: what listens at ::1 is its own relay."""

    kind = "nft"

    def describe(self) -> str:
        out = [subnet for each in self.bridges if not each.internal for subnet in (each.subnet, each.subnet6) if subnet]
        ports = f"; ports {', '.join(shown(self.to.ports))}" if self.to.ports else ""
        what = f"masquerade {', '.join(out)}" if out else f"keep {', '.join(each.name for each in self.bridges)} closed"
        return f"{what}{ports} in nftables table {table_name(self.run_dir)}"

    def by_hand(self) -> str:
        table = table_name(self.run_dir)
        chain = "'{ type nat hook postrouting priority srcnat; }'"
        lines = [f"nft add table inet {table}; nft add chain inet {table} out {chain}"]
        lines += [f"nft add rule inet {table} out {ip} saddr {subnet} oifname != {each.name} masquerade"
                  for each in self.bridges if not each.internal
                  for ip, subnet in (("ip", each.subnet), ("ip6", each.subnet6)) if subnet]  # fmt: skip
        rules = [rule.partition(" comment")[0] for port in self.to.ports for rule in port_rules(port, self.to)]
        return "; ".join([*lines, *(f"nft add rule inet {table} published {rule}" for rule in rules)])

    def run(self) -> None:
        """Write the table; where it is up already and nothing is published, there is nothing to do."""
        missing = [each for each in self.bridges if not _is_marked(each.name)]
        is_up = nft.has_table("inet", table_name(self.run_dir))
        if is_up and not missing and not self.to.ports:
            return
        with _locked(self.run_dir):
            if self.to.ports:
                check_free(self.run_dir, self.to.container_id, self.to.ports, is_live=self.is_live)
            self._put_on_record()
            try:
                self._open(missing if is_up else self.bridges)
            except (nft.NftError, Unsupported):
                if self.to.ports:
                    self._forget_ports()
                    raise
                return  # a host without NAT: the bridge leads to this host and to the other containers only
            except BaseException:
                self._forget_ports()
                raise
        conntrack.forget(self.to.ports)

    def _open(self, new: Sequence[Bridge]) -> None:
        ways_out = [each for each in new if not each.internal]
        has_ipv6 = any(each.subnet6 for each in ways_out)
        for each in ways_out:
            forwarding.prepare(each.name, ipv6=bool(each.subnet6))
        _write(self.run_dir)
        if ways_out:
            forwarding.turn_on(ipv6=has_ipv6)
        for each in new:
            _mark(each.name).write_text("1")

    def _put_on_record(self) -> None:
        for each in self.bridges:
            _bridges(self.run_dir).mkdir(mode=0o700, exist_ok=True)
            write_file(_bridges(self.run_dir) / each.name, json.dumps(asdict(each)))
        if self.to.ports:
            _ports(self.run_dir).mkdir(mode=0o700, exist_ok=True)
            entries = [[port.host, port.guest, port.protocol, port.address] for port in self.to.ports]
            content = {"address": self.to.address, "address6": self.to.address6, "ports": entries}
            write_file(_ports(self.run_dir) / self.to.container_id, json.dumps(content))

    def _forget_ports(self) -> None:
        (_ports(self.run_dir) / self.to.container_id).unlink(missing_ok=True)

    def undo(self) -> None:
        """Take the ports back; the way out stays with the bridge."""
        _withdraw(self.run_dir, self.to.container_id)


def steps(record: ContainerRecord, run_dir: Path, *, is_live: bool = False) -> list[OpenWayOut]:
    """Return what gives a container on bridges its way out and its ports."""
    if not record.endpoints:
        return []
    bridges = tuple(bridge_of(each) for each in record.endpoints)
    return [OpenWayOut(run_dir, bridges, published(record), is_live)]


def bridge_of(endpoint: Endpoint) -> Bridge:
    """Return the bridge that a container is on."""
    subnet = str(ipaddress.IPv4Network(f"{endpoint.address}/{endpoint.prefix_length}", strict=False))
    six = f"{endpoint.address6}/{endpoint.prefix_length6}" if endpoint.address6 else ""
    subnet6 = str(ipaddress.IPv6Network(six, strict=False)) if six else ""
    return Bridge(endpoint.bridge, subnet, subnet6, endpoint.internal)


def published(record: ContainerRecord) -> Published:
    """Return where a container's ports lead: to its first address of each family that has a way out."""
    ways_out = [each for each in record.endpoints if not each.internal]
    address = next((each.address for each in ways_out), "")
    address6 = next((each.address6 for each in ways_out if each.address6), "")
    ports = tuple(parse_ports(record.publish)) if address or address6 else ()
    return Published(record.id, address, address6, ports)


def withdraw(run_dir: Path, record: ContainerRecord) -> None:
    """Take back the ports of a container, if it has any. Raises InnkeeperError, OSError."""
    if record.publish:
        _withdraw(run_dir, record.id)


def keep_only(run_dir: Path, container_ids: set[str]) -> list[str]:
    """Take back the ports of all other containers, and return whose they were."""
    with suppress(FileNotFoundError):
        gone = [name for name in os.listdir(_ports(run_dir)) if name[:1] != "." and name not in container_ids]
        for name in gone:
            _withdraw(run_dir, name)
        return gone
    return []


def mend(run_dir: Path) -> bool:
    """Write the table again if somebody has deleted it while bridges are up; says whether."""
    if not _live_bridges(run_dir) or nft.has_table("inet", table_name(run_dir)):
        return False
    with _locked(run_dir):
        _write(run_dir)
    return True


def close(run_dir: Path, bridge: str) -> None:
    """A bridge has gone: so does its part of the table; with the last one the table, and forwarding is as before."""
    if not (run_dir / "nat.lock").exists():
        return
    with _locked(run_dir):
        (_bridges(run_dir) / bridge).unlink(missing_ok=True)
        if _live_bridges(run_dir):
            with suppress(InnkeeperError):
                _write(run_dir)
            return
        shutil.rmtree(_ports(run_dir), ignore_errors=True)
        shutil.rmtree(_bridges(run_dir), ignore_errors=True)
        table = table_name(run_dir)
        with suppress(InnkeeperError):
            nft.run(f"add table inet {table}; delete table inet {table}")
        forwarding.turn_off()
        (run_dir / "nat.lock").unlink(missing_ok=True)


def check_free(run_dir: Path, container_id: str, ports: Sequence[Port], *, is_live: bool = False) -> None:
    """Raise StartFailed if another container or a program of the host has one of the ports."""
    for other in _published(run_dir):
        for port in ports:
            if other.container_id != container_id and any(collide(port, each) for each in other.ports):
                what = f"port {port.host}/{port.protocol} of the host"
                raise StartFailed(f"{what} is published by container {other.container_id} already")
    elsewhere = _published_elsewhere(table_name(run_dir))
    for port in ports:
        if any(collide(port, other) for other in elsewhere):
            raise StartFailed(f"port {port.host}/{port.protocol} of the host is published below another state folder")
        for family in port.families():
            if family == 6 and is_live and port.is_relayed:
                continue
            if family == 4 or ":" in port.address or Path("/proc/net/if_inet6").exists():
                _try_bind(port, family)


def _published_elsewhere(own: str) -> list[Port]:
    """Return what containers of other state folders publish: nobody listens there, only rules tell."""
    found: list[Port] = []
    with suppress(InnkeeperError):
        tables = [line.split()[2] for line in nft.run("list tables inet").splitlines() if line.strip()]
        for table in tables:
            if table != own and table.startswith("innkeeper"):
                found += [_port(match) for match in _RULE.finditer(nft.run(f"list table inet {table}"))]
    return found


def _port(match: re.Match[str]) -> Port:
    family, address, protocol, number = match.groups()
    everywhere = {"ipv4": "0.0.0.0", "ipv6": "::"}
    return Port(int(number), 0, protocol, address or everywhere[family])


def _try_bind(port: Port, family: int) -> None:
    number, everywhere = _FAMILIES[family]
    with socket.socket(number, _SOCKETS[port.protocol]) as sock:
        if family == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if port.protocol == "tcp":  # a connection that has ended holds it for a minute, one that listens all the same
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((port.address or everywhere, port.host))
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
            at = f"{port.host}/{port.protocol}" + (f" at {port.address}" if port.address else "")
            raise StartFailed(f"port {at} of the host {why}") from error


def _withdraw(run_dir: Path, container_id: str) -> None:
    if not (_ports(run_dir) / container_id).exists():
        return
    with _locked(run_dir):
        gone = [each for each in _published(run_dir) if each.container_id == container_id]
        (_ports(run_dir) / container_id).unlink(missing_ok=True)
        if _live_bridges(run_dir):
            _write(run_dir)
    for each in gone:
        conntrack.forget(each.ports)


def _write(run_dir: Path) -> None:
    text = table_text(table_name(run_dir), _live_bridges(run_dir), _published(run_dir), forwarding.closed())
    nft.run(text)


def _live_bridges(run_dir: Path) -> list[Bridge]:
    """Return the bridges on record that are there; what is on record of others is from before they went."""
    found = []
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(_bridges(run_dir))):
            if name.startswith(".") or not netlink.link_exists(name):
                continue
            with suppress(FileNotFoundError, ValueError, TypeError):
                found.append(Bridge(**json.loads((_bridges(run_dir) / name).read_text())))
    return found


def _published(run_dir: Path) -> list[Published]:
    """Return what each container publishes."""
    found = []
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(_ports(run_dir))):
            if name.startswith("."):
                continue
            with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
                raw = json.loads((_ports(run_dir) / name).read_text())
                ports = tuple(Port(*entry) for entry in raw["ports"])
                found.append(Published(name, raw["address"], raw["address6"], ports))
    return found


def _bridges(run_dir: Path) -> Path:
    return run_dir / "bridges"


def _ports(run_dir: Path) -> Path:
    return run_dir / "ports"


@contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    with locked(run_dir / "nat.lock"):
        yield


def _is_marked(bridge: str) -> bool:
    """Say whether the table was written for this bridge: that is marked in the bridge itself."""
    try:
        return _mark(bridge).read_text().strip() == "1"
    except OSError:
        return False


def _mark(bridge: str) -> Path:
    return Path(f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet")
