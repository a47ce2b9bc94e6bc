"""The demo VM: a small Linux that boots in a few seconds and keeps itself gently busy.

::

    make_demo_vm("qemu:///system", state_dir, print)      # kernel, initramfs, disk, domain; started
    remove_demo_vm("qemu:///system", state_dir, print)    # leaves nothing of it
"""

from __future__ import annotations

import hashlib
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
from backends.libvirt.demo_domain import MARK, DemoShape, domain_xml
from backends.libvirt.demo_kernel import demo_parts
from backends.libvirt.kvm_probe import probe_kvm
from backends.libvirt.lifecycle import undefine
from backends.libvirt.link import Link

Say = Callable[[str], None]

NAME = "demo-vm"
BOOTED = "innkeeper demo: up"
"""What the guest prints on its serial console when it is up."""

_OWNER = "owner"
"""File beside the disk that names the state folder it belongs to."""

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


def make_demo_vm(
    uri: str,
    state_dir: Path,
    say: Say,
    *,
    run_dir: Path | None = None,
    name: str | None = None,
    shape: DemoShape | None = None,
) -> DemoVm:
    """Make and start the demo VM, saying each thing it does; one that is there already is only started.

    It belongs to the state folder: without a name it is `demo-vm`, or, where another state folder has one of
    that name, `demo-vm-` and four digits made of the folder. Starts libvirt's daemons where none run (see
    daemons.py). Raises BackendUnavailable, Unsupported,
    AlreadyExists when a foreign domain has the name.
    """
    shape = shape or DemoShape()
    runtime = run_dir or state_dir / "run"
    ensure_daemons(uri, runtime, say)
    link = _link(uri)
    try:
        chosen, there = link.call("look for the demo VM", lambda c: _find(c, state_dir, name), _TIMEOUT_S)
        folder = demo_folder(state_dir, chosen)
        if not (folder / "disk.qcow2").exists():
            _make_files(folder, state_dir, shape, say)
        if there is None:
            kind = _domain_kind(runtime, say)
            text = domain_xml(chosen, kind, folder, shape, owner=str(state_dir))
            say(f"defining the VM {chosen} ({kind}, {shape.vcpus} vCPUs, {shape.memory_mib} MiB)")
            link.call(f"define {chosen}", lambda connection: connection.defineXML(text).UUIDString(), _TIMEOUT_S)
        return link.call(f"start {chosen}", lambda connection: _start(connection, chosen, folder, say), _TIMEOUT_S)
    finally:
        link.close()


def remove_demo_vm(
    uri: str, state_dir: Path, say: Say, *, run_dir: Path | None = None, name: str | None = None
) -> bool:
    """Force the demo VM off and remove it, its files, logs and the daemons started for it; False if there is none.

    That of another state folder is left alone.
    """
    runtime = run_dir or state_dir / "run"
    if not answers(uri):
        names = (name,) if name else (NAME, other_name(state_dir))
        if not any(_owns(demo_folder(state_dir, known), state_dir) for known in names):
            return False
        ensure_daemons(uri, runtime, say)  # its definition outlives a reboot, a daemon started by hand does not
    chosen, uuid = _remove_domain(uri, state_dir, name, say)
    folder = demo_folder(state_dir, chosen)
    was_there = uuid is not None or _owns(folder, state_dir)
    if _owns(folder, state_dir):
        say(f"removing {folder}")
        shutil.rmtree(folder)
    (runtime / "libvirt" / "kvm-probe.json").unlink(missing_ok=True)
    for left in _traces(chosen, uuid, state_dir) if was_there else ():
        left.unlink(missing_ok=True)
    stop_daemons(uri, runtime, say)
    for empty in (folder.parent, state_dir / "libvirt", runtime / "libvirt"):
        if empty.name in ("libvirt-demo", "libvirt"):
            with suppress(OSError):
                empty.rmdir()
    return was_there


def _remove_domain(uri: str, state_dir: Path, name: str | None, say: Say) -> tuple[str, str | None]:
    """Force it off and undefine it; return its name and its UUID, None if there was none."""
    link = _link(uri)
    try:
        chosen, uuid = link.call("look for the demo VM", lambda c: _find(c, state_dir, name), _TIMEOUT_S)
        if uuid is not None:
            say(f"removing the VM {chosen}")
            link.call(f"remove {chosen}", lambda connection: _remove(connection, chosen), _TIMEOUT_S)
        return chosen, uuid
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


def other_name(state_dir: Path) -> str:
    """Return the demo VM's name where `demo-vm` is another state folder's."""
    return f"{NAME}-{hashlib.sha256(str(state_dir).encode()).hexdigest()[:4]}"


def _owns(folder: Path, state_dir: Path) -> bool:
    """Say whether a folder holds the files of this state folder's demo VM."""
    try:
        return (folder / _OWNER).read_text(encoding="utf-8") == str(state_dir)
    except OSError:
        return False


def _is_open(folder: Path) -> bool:
    return bool(stat.S_IMODE(folder.stat().st_mode) & stat.S_IXOTH)


def _domain_kind(run_dir: Path, say: Say) -> str:
    probe = probe_kvm(run_dir)
    say(f"KVM: {probe.found}" + ("" if probe.works else "; the VM is emulated"))
    return "kvm" if probe.works else "qemu"


def _make_files(folder: Path, state_dir: Path, shape: DemoShape, say: Say) -> None:
    if os.uname().machine != "x86_64":
        raise Unsupported(f"the demo VM is made for x86_64 only, and this is {os.uname().machine}")
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder.chmod(0o711)
    if folder.parent.name == "libvirt-demo":
        folder.parent.chmod(0o711)
    (folder / _OWNER).write_text(str(state_dir), encoding="utf-8")
    with demo_parts(say) as parts:
        # libvirt gives the files to QEMU's user while the guest runs, so the host's own kernel is copied.
        shutil.copyfile(parts.kernel, folder / "vmlinuz")
        say("packing an initramfs: busybox, the kernel's virtio modules and one script")
        script = Path(__file__).with_name("demo_init.sh").read_text(encoding="utf-8")
        (folder / "initramfs.gz").write_bytes(initramfs.build(parts.busybox, parts.modules, script))
    disk = folder / "disk.qcow2"
    say(f"making {disk} ({shape.disk_mib} MiB)")
    try:
        done = subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", str(disk), f"{shape.disk_mib}M"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except FileNotFoundError as error:
        raise Unsupported("qemu-img is not installed", hint="apt install qemu-utils") from error
    if done.returncode:
        raise InnkeeperError(f"cannot make {disk}: {done.stderr.strip()}")


def _link(uri: str) -> Link:
    event_loop.ensure_running()
    return Link(uri, "demo")


def _find(connection: Connection, state_dir: Path, name: str | None) -> tuple[str, str | None]:
    """Return the name of this state folder's demo VM, and its UUID if it is there.

    Raises AlreadyExists if the name is a foreign domain's.
    """
    names = (name,) if name else (NAME, other_name(state_dir))
    found = {domain.name(): domain for domain in connection.listAllDomains() if domain.name() in names}
    owners = {known: _owner(domain) for known, domain in found.items()}
    for known, owner in owners.items():
        if owner == str(state_dir):
            return known, found[known].UUIDString()
        if owner is None:
            raise AlreadyExists(f"there is a virtual machine {known} already, and it is not the demo's")
    for known in names:
        if known not in found:
            return known, None
    raise AlreadyExists(f"there is a demo VM {names[0]} already, of {owners[names[0]]}")


def _owner(domain: Domain) -> str | None:
    """Return the state folder that a demo VM belongs to; None for a domain that is no demo VM."""
    mark = ET.fromstring(domain.XMLDesc(0)).find(f"metadata/{{{MARK}}}innkeeper")
    return None if mark is None else mark.get("state", "")


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
