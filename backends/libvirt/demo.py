"""The demo VM: a small Linux that boots in a few seconds and keeps itself gently busy.

::

    make_demo_vm("qemu:///system", state_dir, print)      # kernel, initramfs, disk, domain; started
    remove_demo_vm("qemu:///system", state_dir, print)    # leaves nothing of it
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backends.errors import AlreadyExists, InnkeeperError, TimedOut, Unsupported
from backends.libvirt import event_loop, initramfs
from backends.libvirt.api import Connection, Domain
from backends.libvirt.daemons import answers, ensure_daemons, stop_daemons
from backends.libvirt.demo_kernel import demo_parts
from backends.libvirt.kvm_probe import probe_kvm
from backends.libvirt.lifecycle import undefine
from backends.libvirt.link import Link

Say = Callable[[str], None]

NAME = "demo-vm"
MARK = "urn:innkeeper:demo"
"""XML namespace of the mark in our domains' metadata; without it a domain is somebody else's."""

BOOTED = "innkeeper demo: up"
"""What the guest prints on its serial console when it is up."""

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class DemoVm:
    """The demo VM as it was made."""

    uuid: str
    name: str
    kind: str
    """"kvm" or "qemu" (emulation)."""

    folder: Path
    console_log: Path


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


def make_demo_vm(
    uri: str,
    state_dir: Path,
    say: Say,
    *,
    run_dir: Path | None = None,
    name: str = NAME,
    shape: DemoShape | None = None,
) -> DemoVm:
    """Make and start the demo VM, saying each thing it does; one that is there already is only started.

    Starts libvirt's daemons where none run (see daemons.py). Raises BackendUnavailable, Unsupported,
    AlreadyExists when a foreign domain has the name.
    """
    shape = shape or DemoShape()
    runtime = run_dir or state_dir / "run"
    ensure_daemons(uri, runtime, say)
    folder = demo_folder(state_dir, name)
    link = _link(uri)
    try:
        there = link.call("look for the demo VM", lambda connection: _find(connection, name), _TIMEOUT_S)
        if not (folder / "disk.qcow2").exists():
            _make_files(folder, shape, say)
        if there is None:
            kind = _domain_kind(runtime, say)
            text = domain_xml(name, kind, folder, shape)
            say(f"defining the VM {name} ({kind}, {shape.vcpus} vCPUs, {shape.memory_mib} MiB)")
            link.call(f"define {name}", lambda connection: connection.defineXML(text).UUIDString(), _TIMEOUT_S)
        return link.call(f"start {name}", lambda connection: _start(connection, name, folder, say), _TIMEOUT_S)
    finally:
        link.close()


def remove_demo_vm(uri: str, state_dir: Path, say: Say, *, run_dir: Path | None = None, name: str = NAME) -> bool:
    """Force the demo VM off and remove it, its files, logs and the daemons started for it; False if there is none."""
    runtime = run_dir or state_dir / "run"
    folder = demo_folder(state_dir, name)
    if not answers(uri):
        if not folder.exists():
            return False
        ensure_daemons(uri, runtime, say)  # its definition outlives a reboot, a daemon started by hand does not
    uuid = _remove_domain(uri, name, say)
    was_there = uuid is not None or folder.exists()
    if folder.exists():
        say(f"removing {folder}")
        shutil.rmtree(folder)
    (runtime / "libvirt" / "kvm-probe.json").unlink(missing_ok=True)
    for left in _traces(name, uuid, state_dir):
        left.unlink(missing_ok=True)
    stop_daemons(uri, runtime, say)
    for empty in (folder.parent, state_dir / "libvirt", runtime / "libvirt"):
        if empty.name in ("libvirt-demo", "libvirt"):
            with suppress(OSError):
                empty.rmdir()
    return was_there


def _remove_domain(uri: str, name: str, say: Say) -> str | None:
    """Force it off and undefine it; return its UUID, None if there was none."""
    link = _link(uri)
    try:
        uuid = link.call("look for the demo VM", lambda connection: _find(connection, name), _TIMEOUT_S)
        if uuid is not None:
            say(f"removing the VM {name}")
            link.call(f"remove {name}", lambda connection: _remove(connection, name), _TIMEOUT_S)
        return uuid
    finally:
        link.close()


def wait_until_booted(console_log: Path, timeout_s: float = 60.0) -> None:
    """Return when the demo VM says that it is up. Raises TimedOut."""
    deadline = time.monotonic() + timeout_s
    while True:
        with suppress(FileNotFoundError):
            if BOOTED in console_log.read_text(errors="replace"):
                return
        if time.monotonic() > deadline:
            raise TimedOut(f"the demo VM did not boot within {timeout_s:g} s", hint=f"see {console_log}")
        time.sleep(0.1)


def demo_folder(state_dir: Path, name: str = NAME) -> Path:
    """Return where its files live: below state_dir if QEMU's own user can get there, else with libvirt's images."""
    wanted = (state_dir / "libvirt-demo" / name).absolute()
    if os.geteuid() != 0 or all(_is_open(parent) for parent in wanted.parents if parent.exists()):
        return wanted
    return Path("/var/lib/libvirt/images") / f"innkeeper-{name}"


def _is_open(folder: Path) -> bool:
    return bool(stat.S_IMODE(folder.stat().st_mode) & stat.S_IXOTH)


def _domain_kind(run_dir: Path, say: Say) -> str:
    probe = probe_kvm(run_dir)
    say(f"KVM: {probe.found}" + ("" if probe.works else "; the VM is emulated"))
    return "kvm" if probe.works else "qemu"


def _make_files(folder: Path, shape: DemoShape, say: Say) -> None:
    if os.uname().machine != "x86_64":
        raise Unsupported(f"the demo VM is made for x86_64 only, and this is {os.uname().machine}")
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    for parent in (folder, folder.parent):
        if parent.name in (NAME, "libvirt-demo"):
            parent.chmod(0o711)
    with demo_parts(say) as parts:
        # libvirt gives the files to QEMU's user while the guest runs, so the host's own kernel is copied.
        shutil.copyfile(parts.kernel, folder / "vmlinuz")
        say("packing an initramfs: busybox, the kernel's virtio modules and one script")
        script = Path(__file__).with_name("demo_init.sh").read_text(encoding="utf-8")
        (folder / "initramfs.gz").write_bytes(initramfs.build(parts.busybox, parts.modules, script))
    disk = folder / "disk.qcow2"
    say(f"making {disk} ({shape.disk_mib} MiB)")
    try:
        done = subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), f"{shape.disk_mib}M"],
                              capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError as error:
        raise Unsupported("qemu-img is not installed", hint="apt install qemu-utils") from error
    if done.returncode:
        raise InnkeeperError(f"cannot make {disk}: {done.stderr.strip()}")


def domain_xml(name: str, kind: str, folder: Path, shape: DemoShape) -> str:
    """Return the definition of the demo VM."""
    root = ET.Element("domain", type=kind)
    _add(root, "name", name)
    mark = ET.SubElement(ET.SubElement(root, "metadata"), f"{{{MARK}}}innkeeper")
    mark.text = "demo"
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


def _link(uri: str) -> Link:
    event_loop.ensure_running()
    return Link(uri, "demo")


def _find(connection: Connection, name: str) -> str | None:
    """Return our demo VM's UUID. Raises AlreadyExists if the name is a foreign domain's."""
    for domain in connection.listAllDomains():
        if domain.name() == name:
            if MARK not in domain.XMLDesc(0):
                raise AlreadyExists(f"there is a virtual machine {name} already, and it is not the demo's")
            return domain.UUIDString()
    return None


def _start(connection: Connection, name: str, folder: Path, say: Say) -> DemoVm:
    domain: Domain = connection.lookupByName(name)
    if not domain.isActive():
        say(f"starting {name}")
        domain.create()
    kind = ET.fromstring(domain.XMLDesc(0)).get("type", "qemu")
    return DemoVm(domain.UUIDString(), name, kind, folder, folder / "console.log")


def _remove(connection: Connection, name: str) -> None:
    domain = connection.lookupByName(name)
    if domain.isActive():
        domain.destroyFlags(0)
    undefine(domain)


def _traces(name: str, uuid: str | None, state_dir: Path) -> list[Path]:
    logs = sorted(Path("/var/log/libvirt/qemu").glob(f"{name}.log*"))
    return [*logs, *([state_dir / "libvirt" / f"{uuid}.jsonl"] if uuid else [])]
