"""What a domain's XML says, as typed values: the one reader of libvirt XML."""

from __future__ import annotations

import posixpath
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

from backends.errors import InnkeeperError
from backends.model import DeviceIo, Limits

_UNITS = {
    "b": 1, "bytes": 1, "kb": 1000, "k": 1024, "kib": 1024, "mb": 1000**2, "m": 1024**2, "mib": 1024**2,
    "gb": 1000**3, "g": 1024**3, "gib": 1024**3, "t": 1024**4, "tib": 1024**4,
}  # fmt: skip

DEFAULT_PERIOD_US = 100_000
"""libvirt's period of the CPU quota."""

UNLIMITED_KIB = 9007199254740988
"""What libvirt shows for a memory limit that is not set, at least."""


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk of a guest."""

    target: str
    """Name in the guest: vda."""

    kind: str
    """"file", "block", "network", "volume" …"""

    device: str
    """"disk", "cdrom", "floppy", "lun"."""

    driver: str
    """Format: "qcow2", "raw"; empty where not said."""

    source: str
    """Path or name on the host; empty for an empty drive."""

    is_readonly: bool
    io: DeviceIo


@dataclass(frozen=True, slots=True)
class Nic:
    """One network interface of a guest."""

    target: str
    """The tap on the host (vnet0); empty while the guest is off."""

    mac: str
    kind: str
    """"bridge", "network", "ethernet", "user" …"""

    source: str
    """Bridge or network it is on."""

    rx_bytes_per_s: int | None
    """What the guest may receive (libvirt's inbound); None for no limit."""

    tx_bytes_per_s: int | None


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """A domain as its XML describes it."""

    uuid: str
    name: str
    kind: str
    """"kvm", "qemu", "test", "lxc" …"""

    machine: str
    kernel: str
    vcpus: int
    memory_max_bytes: int
    memory_bytes: int
    """Balloon: what the guest has now."""

    limits: Limits
    """As the XML has them; cpu_weight is libvirt's raw <shares>."""

    quota_us: int | None
    """CPU quota of each vCPU in a period; None for none."""

    period_us: int
    global_quota_us: int | None
    """CPU quota of the guest as a whole."""

    disks: tuple[Disk, ...]
    nics: tuple[Nic, ...]
    has_balloon: bool
    has_console: bool
    console_log: str
    """File that the serial console is written to; empty for none."""

    has_nvram: bool
    labels: tuple[tuple[str, str], ...]
    text: str
    """The XML itself."""


def read_domain(text: str) -> DomainInfo:
    """Parse a domain's XML. Raises InnkeeperError when it is not what libvirt documents."""
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise InnkeeperError(f"cannot read a domain's XML: {error}") from error
    disks = tuple(_disk(node) for node in root.findall("devices/disk"))
    nics = tuple(_nic(node) for node in root.findall("devices/interface"))
    vcpus = _vcpus(root)
    memory_max = memory_bytes(root.find("memory"))
    balloon = memory_bytes(root.find("currentMemory")) or memory_max
    quota, period = _quota(root)
    balloon_node = root.find("devices/memballoon")
    return DomainInfo(
        uuid=root.findtext("uuid", ""),
        name=root.findtext("name", ""),
        kind=root.get("type", ""),
        machine=_attribute(root, "os/type", "machine"),
        kernel=root.findtext("os/kernel", ""),
        vcpus=vcpus,
        memory_max_bytes=memory_max,
        memory_bytes=balloon,
        limits=_limits(root, vcpus, balloon if balloon < memory_max else None, disks, nics),
        quota_us=quota,
        period_us=period,
        global_quota_us=_int_or_none(root.findtext("cputune/global_quota")),
        disks=disks,
        nics=nics,
        has_balloon=balloon_node is not None and balloon_node.get("model") != "none",
        has_console=root.find("devices/serial") is not None or root.find("devices/console") is not None,
        console_log=_attribute(root, "devices/serial/log", "file") or _attribute(root, "devices/console/log", "file"),
        has_nvram=root.find("os/nvram") is not None,
        labels=tuple((node.tag.rpartition("}")[2], (node.text or "").strip()) for node in root.findall("metadata/*")),
        text=text,
    )


def memory_bytes(node: ET.Element | None) -> int:
    """Return the size in a node such as <memory unit='KiB'>; 0 without one."""
    if node is None or not (node.text or "").strip():
        return 0
    return int((node.text or "0").strip()) * _UNITS.get(node.get("unit", "KiB").lower(), 1024)


def as_json(text: str) -> Any:
    """Return XML as JSON types: attributes as "@name", text as "#text", repeated tags as a list."""
    return _node_as_json(ET.fromstring(text))


def _node_as_json(node: ET.Element) -> Any:
    found: dict[str, Any] = {f"@{key}": value for key, value in node.attrib.items()}
    for child in node:
        tag, value = child.tag.rpartition("}")[2], _node_as_json(child)
        if tag not in found:
            found[tag] = value
        elif isinstance(found[tag], list):
            found[tag].append(value)
        else:
            found[tag] = [found[tag], value]
    own = (node.text or "").strip()
    if not found:
        return own
    if own:
        found["#text"] = own
    return found


def _attribute(root: ET.Element, path: str, name: str) -> str:
    node = root.find(path)
    return "" if node is None else node.get(name, "")


def _vcpus(root: ET.Element) -> int:
    node = root.find("vcpu")
    return 1 if node is None else int(node.get("current") or (node.text or "1").strip() or 1)


def _quota(root: ET.Element) -> tuple[int | None, int]:
    quota = int(root.findtext("cputune/quota", "0"))
    period = int(root.findtext("cputune/period", "0")) or DEFAULT_PERIOD_US
    return (quota if quota > 0 else None), period


def _limits(
    root: ET.Element, vcpus: int, balloon: int | None, disks: tuple[Disk, ...], nics: tuple[Nic, ...]
) -> Limits:
    io = common_io([disk for disk in disks if disk.device in ("disk", "lun")])
    return Limits(
        cpus=_cpus(root, vcpus),
        cpu_weight=_int_or_none(root.findtext("cputune/shares")),
        cpuset=_cpuset(root, vcpus),
        memory_bytes=balloon,
        io_read_bytes_per_s=io.read_bytes_per_s,
        io_write_bytes_per_s=io.write_bytes_per_s,
        io_read_ops_per_s=io.read_ops_per_s,
        io_write_ops_per_s=io.write_ops_per_s,
        net_rx_bytes_per_s=_common([nic.rx_bytes_per_s for nic in nics]),
        net_tx_bytes_per_s=_common([nic.tx_bytes_per_s for nic in nics]),
        io_devices=() if io.device == "*" else tuple(disk.io for disk in disks if _has_limit(disk.io)),
    )


def _cpus(root: ET.Element, vcpus: int) -> float | None:
    """Cores over all vCPUs, from whichever of libvirt's two quotas is the tighter."""
    quota, period = _quota(root)
    found = [] if quota is None else [vcpus * quota / period]
    global_quota = int(root.findtext("cputune/global_quota", "0"))
    if global_quota > 0:
        found.append(global_quota / (int(root.findtext("cputune/global_period", "0")) or DEFAULT_PERIOD_US))
    return round(min(found), 4) if found else None


def _cpuset(root: ET.Element, vcpus: int) -> str | None:
    pins = {node.get("cpuset", "") for node in root.findall("cputune/vcpupin")}
    if len(root.findall("cputune/vcpupin")) >= vcpus and len(pins) == 1:
        return pins.pop()
    return _attribute(root, "vcpu", "cpuset") or None


def common_io(disks: list[Disk]) -> DeviceIo:
    """Return the limits that all disks share, as device "*"; one named "" if they differ."""
    values = {(d.io.read_bytes_per_s, d.io.write_bytes_per_s, d.io.read_ops_per_s, d.io.write_ops_per_s) for d in disks}
    return DeviceIo("*", *values.pop()) if len(values) == 1 else DeviceIo("*" if not values else "")


def _common(values: list[int | None]) -> int | None:
    return values[0] if values and len(set(values)) == 1 else None


def _has_limit(io: DeviceIo) -> bool:
    return any((io.read_bytes_per_s, io.write_bytes_per_s, io.read_ops_per_s, io.write_ops_per_s))


def _disk(node: ET.Element) -> Disk:
    target, source = _attribute(node, "target", "dev"), node.find("source")
    path = (
        ""
        if source is None
        else next((source.get(key, "") for key in ("file", "dev", "name", "volume", "dir") if source.get(key)), "")
    )
    tune = node.find("iotune")

    def limit(of: str, what: str) -> int | None:
        if tune is None:
            return None
        return _int_or_none(tune.findtext(f"{of}_{what}_sec")) or _int_or_none(tune.findtext(f"total_{what}_sec"))

    return Disk(
        target=target,
        kind=node.get("type", ""),
        device=node.get("device", "disk"),
        driver=_attribute(node, "driver", "type"),
        source=path,
        is_readonly=node.find("readonly") is not None,
        io=DeviceIo(
            target, limit("read", "bytes"), limit("write", "bytes"), limit("read", "iops"), limit("write", "iops")
        ),
    )


def _nic(node: ET.Element) -> Nic:
    source = node.find("source")
    return Nic(
        target=_attribute(node, "target", "dev"),
        mac=_attribute(node, "mac", "address"),
        kind=node.get("type", ""),
        source="" if source is None else source.get("bridge") or source.get("network") or source.get("dev") or "",
        rx_bytes_per_s=_kib(_attribute(node, "bandwidth/inbound", "average")),
        tx_bytes_per_s=_kib(_attribute(node, "bandwidth/outbound", "average")),
    )


def _kib(text: str) -> int | None:
    return int(text) * 1024 if text else None


def _int_or_none(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdigit() and int(text) > 0 else None


def image_of(info: DomainInfo) -> str | None:
    """Return what the guest boots from, shortly: its kernel, its first disk, or its machine type."""
    if info.kernel:
        return posixpath.basename(info.kernel)
    first = next((disk.source for disk in info.disks if disk.device == "disk" and disk.source), "")
    return posixpath.basename(first) or info.machine or None
