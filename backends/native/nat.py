"""The way out of the bridge and published ports: one nftables table of our own for each state folder.

The table is written anew as a whole, in one transaction, from what is on record of each container that publishes
something; tables of others are never touched.

::

    RUN/ports/ID     {"address": …, "ports": [[host, guest, protocol, address], …]} while the container has its link
    RUN/ip_forward   there if we turned forwarding on: with the bridge it is turned off again

A packet to a published port is sent on to the container wherever it comes from: other hosts (prerouting), this host
and its loopback (output; the bridge has route_localnet for that, and packets of containers to 127.0.0.0/8 are
dropped, which else would reach what listens there), and the bridge itself.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backends.errors import InnkeeperError, StartFailed, Unsupported
from backends.kernel import nft
from backends.kernel.mounts import KernelStep
from backends.native.locking import locked
from backends.native.networks.endpoint import Endpoint
from backends.native.options.ports import Port, collide, parse_ports
from backends.native.record import ContainerRecord
from backends.native.store import write_file

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_SOCKETS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}


def table_name(bridge: str) -> str:
    """Return the name of our table for a bridge; hyphens are nothing that nft knows in names."""
    return "innkeeper" if bridge == "inn0" else f"innkeeper_{bridge.removeprefix('inn-')}"


def shown(ports: Sequence[Port]) -> tuple[str, ...]:
    """Return ports as Guest.ports has them: "127.0.0.1:8080->80/tcp"."""
    at = ((f"{port.address}:" if port.address else "", port) for port in ports)
    return tuple(f"{address}{port.host}->{port.guest}/{port.protocol}" for address, port in at)


@dataclass(frozen=True, slots=True)
class OpenWayOut(KernelStep):
    """Let what is on a bridge out under the host's address, and lead ports of the host to a container on it."""

    run_dir: Path
    bridge: str
    subnet: str
    container_id: str
    address: str
    ports: tuple[Port, ...]
    kind = "nft"

    def describe(self) -> str:
        ports = f", ports {', '.join(shown(self.ports))}" if self.ports else ""
        return f"masquerade {self.subnet}{ports} in nftables table {table_name(self.bridge)}"

    def by_hand(self) -> str:
        table = table_name(self.bridge)
        chain = "'{ type nat hook postrouting priority srcnat; }'"
        lines = [f"nft add table ip {table}; nft add chain ip {table} out {chain}",
                 f"nft add rule ip {table} out ip saddr {self.subnet} oifname != {self.bridge} masquerade"]  # fmt: skip
        rules = [_rule(port, self.address) for port in self.ports]
        return "; ".join([*lines, *(f"nft add rule ip {table} published {rule}" for rule in rules)])

    def run(self) -> None:
        """Write the table; where it is up already and nothing is published, there is nothing to do."""
        is_up = _is_up(self.bridge)
        if is_up and not self.ports:
            return
        with _locked(self.run_dir):
            if not is_up:
                _forget_all(self.run_dir)
            if self.ports:
                check_free(self.run_dir, self.container_id, self.ports)
                _put_on_record(self.run_dir, self.container_id, self.address, self.ports)
            try:
                _write(self.run_dir, self.bridge, self.subnet)
            except (nft.NftError, Unsupported):
                if self.ports:
                    (_folder(self.run_dir) / self.container_id).unlink(missing_ok=True)
                    raise
                return  # a host without NAT: the bridge leads to this host and to the other containers only
            except BaseException:
                (_folder(self.run_dir) / self.container_id).unlink(missing_ok=True)
                raise
            if not is_up:
                _turn_on(self.run_dir, self.bridge)

    def undo(self) -> None:
        """Take the ports back; the way out stays with the bridge."""
        _withdraw(self.run_dir, self.bridge, self.subnet, self.container_id)


def steps(record: ContainerRecord, run_dir: Path) -> list[OpenWayOut]:
    """Return what gives a container on the bridge its way out and its ports."""
    ports = tuple(parse_ports(record.publish))
    return [OpenWayOut(run_dir, each.bridge, _subnet(each), record.id, each.address, ports)
            for each in record.endpoints[:1]]  # fmt: skip


def withdraw(run_dir: Path, record: ContainerRecord) -> None:
    """Take back the ports of a container, if it has any. Raises InnkeeperError, OSError."""
    if record.publish:
        for each in record.endpoints[:1]:
            _withdraw(run_dir, each.bridge, _subnet(each), record.id)


def close(run_dir: Path, bridge: str) -> None:
    """Delete the table, with the bridge; forwarding is as before."""
    if not (run_dir / "nat.lock").exists():
        return
    with _locked(run_dir):
        _forget_all(run_dir)
        table = table_name(bridge)
        with suppress(InnkeeperError):
            nft.run(f"add table ip {table}; delete table ip {table}")
        remembered = run_dir / "ip_forward"
        if remembered.exists():
            with suppress(OSError):
                _FORWARD.write_text("0")
            remembered.unlink(missing_ok=True)
        (run_dir / "nat.lock").unlink(missing_ok=True)


def _withdraw(run_dir: Path, bridge: str, subnet: str, container_id: str) -> None:
    with _locked(run_dir):
        try:
            (_folder(run_dir) / container_id).unlink()
        except FileNotFoundError:
            return
        if _is_up(bridge):
            _write(run_dir, bridge, subnet)


def _subnet(endpoint: Endpoint) -> str:
    return str(ipaddress.IPv4Network(f"{endpoint.address}/{endpoint.prefix_length}", strict=False))


def _folder(run_dir: Path) -> Path:
    return run_dir / "ports"


@contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    with locked(run_dir / "nat.lock"):
        yield


def _put_on_record(run_dir: Path, container_id: str, address: str, ports: Sequence[Port]) -> None:
    _folder(run_dir).mkdir(mode=0o700, exist_ok=True)
    entries = [[port.host, port.guest, port.protocol, port.address] for port in ports]
    write_file(_folder(run_dir) / container_id, json.dumps({"address": address, "ports": entries}))


def _forget_all(run_dir: Path) -> None:
    """What is on record of a bridge that is not there is from before the host was restarted."""
    shutil.rmtree(_folder(run_dir), ignore_errors=True)


def _is_up(bridge: str) -> bool:
    """Say whether the table was written for this bridge: that is marked in the bridge itself."""
    try:
        return _local(bridge).read_text().strip() == "1"
    except OSError:
        return False


def _local(bridge: str) -> Path:
    return Path(f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet")


def check_free(run_dir: Path, container_id: str, ports: Sequence[Port]) -> None:
    """Raise StartFailed if another container or a program of the host has one of the ports."""
    for name, others in _published(run_dir).items():
        for port in ports:
            if name != container_id and any(collide(port, other) for other in others[1]):
                what = f"port {port.host}/{port.protocol} of the host"
                raise StartFailed(f"{what} is published by container {name} already")
    for port in ports:
        with socket.socket(socket.AF_INET, _SOCKETS[port.protocol]) as sock:
            try:
                sock.bind((port.address or "0.0.0.0", port.host))
            except OSError as error:
                why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
                raise StartFailed(f"port {port.host}/{port.protocol} of the host {why}") from error


def _published(run_dir: Path) -> dict[str, tuple[str, list[Port]]]:
    """Return address and ports of each container that publishes some."""
    found: dict[str, tuple[str, list[Port]]] = {}
    if not _folder(run_dir).is_dir():
        return found
    for name in os.listdir(_folder(run_dir)):
        if not name.startswith("."):
            with suppress(FileNotFoundError):
                raw = json.loads((_folder(run_dir) / name).read_text())
                found[name] = (str(raw["address"]), [Port(*entry) for entry in raw["ports"]])
    return found


def _turn_on(run_dir: Path, bridge: str) -> None:
    if _FORWARD.read_text().strip() == "0":
        write_file(run_dir / "ip_forward", "0")
        _FORWARD.write_text("1")
    _local(bridge).write_text("1")


def _write(run_dir: Path, bridge: str, subnet: str) -> None:
    nft.run(table_text(bridge, subnet, _published(run_dir)))


def table_text(bridge: str, subnet: str, published: dict[str, tuple[str, list[Port]]]) -> str:
    """Return the commands that put the table in the place of what was there."""
    table = table_name(bridge)
    rules = [f'{_rule(port, address)} comment "{name}"' for name, (address, ports) in sorted(published.items())
             for port in sorted(ports, key=lambda port: not port.address)]  # fmt: skip
    return f"""
add table ip {table}
delete table ip {table}
table ip {table} {{
  chain guard {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{bridge}" ip daddr 127.0.0.0/8 drop
  }}
  chain published {{
    {chr(10).join(rules)}
  }}
  chain incoming {{
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump published
  }}
  chain own {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump published
  }}
  chain out {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {subnet} oifname != "{bridge}" masquerade
    ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade
    ip saddr {subnet} oifname "{bridge}" ct status dnat masquerade
  }}
}}
"""


def _rule(port: Port, guest: str) -> str:
    at = f"ip daddr {port.address} " if port.address else ""
    return f"{at}{port.protocol} dport {port.host} dnat to {guest}:{port.guest}"
