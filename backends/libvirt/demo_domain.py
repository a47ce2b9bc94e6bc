"""What the demo VM is made of, as a libvirt domain."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

MARK = "urn:innkeeper:demo"
"""XML namespace of the mark in our domains' metadata; without it a domain is somebody else's."""


@dataclass(frozen=True, slots=True)
class DemoShape:
    """What the demo VM has."""

    vcpus: int = 2
    memory_mib: int = 256
    disk_mib: int = 64
    bridge: str | None = None
    """Bridge that its network card is on; None for none."""

    has_network: bool = True
    """A card also without a bridge: its link then ends on this host."""

    address: str | None = None
    """"10.0.0.9/24": what the guest sets on its card."""

    load: str = "waves"
    """"waves", "cpu" (one busy program), "disk" or "none"."""


def domain_xml(name: str, kind: str, folder: Path, shape: DemoShape, *, owner: str = "") -> str:
    """Return the definition of the demo VM."""
    root = ET.Element("domain", type=kind)
    _add(root, "name", name)
    mark = ET.SubElement(ET.SubElement(root, "metadata"), f"{{{MARK}}}innkeeper")
    mark.text = "demo"
    mark.set("state", owner)
    _add(root, "memory", str(shape.memory_mib), unit="MiB")
    _add(root, "vcpu", str(shape.vcpus))
    system = _add(root, "os")
    _add(system, "type", "hvm", arch="x86_64", machine="q35")
    _add(system, "kernel", str(folder / "vmlinuz"))
    _add(system, "initrd", str(folder / "initramfs.gz"))
    words = ["console=ttyS0", "quiet", "panic=5", f"innkeeper.load={shape.load}"]
    _add(system, "cmdline", " ".join([*words, *([f"innkeeper.address={shape.address}"] if shape.address else [])]))
    features = _add(root, "features")
    _add(features, "acpi")
    _add(features, "apic")
    if kind == "qemu":
        # QEMU's default for translated code is a quarter of the host's memory limit: more than the guest has.
        _add(_add(features, "tcg"), "tb-cache", "32", unit="MiB")
    else:
        _add(root, "cpu", mode="host-passthrough")
    devices = _add(root, "devices")
    disk = _add(devices, "disk", type="file", device="disk")
    cache = {"cache": "none"} if _takes_direct_io(folder / "disk.qcow2") else {}
    _add(disk, "driver", name="qemu", type="qcow2", **cache)
    _add(disk, "source", file=str(folder / "disk.qcow2"))
    _add(disk, "target", dev="vda", bus="virtio")
    if shape.bridge or shape.has_network:
        nic = _add(devices, "interface", type="bridge" if shape.bridge else "ethernet")
        if shape.bridge:
            _add(nic, "source", bridge=shape.bridge)
        _add(nic, "model", type="virtio")
    serial = _add(devices, "serial", type="pty")
    _add(serial, "log", file=str(folder / "console.log"), append="on")
    _add(serial, "target", port="0")
    _add(_add(devices, "memballoon", model="virtio"), "stats", period="5")
    ET.register_namespace("innkeeper", MARK)
    return ET.tostring(root, encoding="unicode")


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    node = ET.SubElement(parent, tag, attributes)
    node.text = text
    return node


def _takes_direct_io(path: Path) -> bool:
    # Direct I/O lets the kernel charge the disk traffic to the guest's cgroup; tmpfs, for one, may refuse it.
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError:
        return False
    return True
