"""A virtual machine to measure: the host's kernel or the distribution's, an initramfs with the programs, an empty disk.

It is transient: libvirt forgets it when it ends, and its files are in a folder that goes with it.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from backends.errors import InnkeeperError, TimedOut, Unsupported
from backends.kernel import procfs
from backends.libvirt import event_loop, initramfs
from backends.libvirt.console import ConsoleSession
from backends.libvirt.daemons import ensure_daemons, stop_daemons
from backends.libvirt.demo_kernel import demo_parts
from backends.libvirt.kvm_probe import probe_kvm
from backends.libvirt.link import Link

Say = Callable[[str], None]

_UP, _BEGIN, _END = b"@bench-up", b"@bench-begin", re.compile(rb"@bench-end (\d+)")
_MEMORY_MIB, _DISK_MIB = 512, 1024
_BOOT_S, _CALL_S = 120.0, 60.0


class BenchVm:
    """The machine, reached over its serial console."""

    def __init__(self, title: str, console: ConsoleSession, folder: Path, start_s: float, pid: int | None) -> None:
        self.title, self._console, self.start_s = title, console, start_s
        self.disk_path = "/dev/vda"
        self.host_folder = str(folder)
        self.disk_bytes = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
        self.memory_bytes = procfs.pss_bytes([pid]) if pid else None

    def run(self, line: str, *, timeout_s: float) -> str:
        """Run a shell line in it."""
        assert self._console.terminal_fd is not None
        os.write(self._console.terminal_fd, line.encode() + b"\n")
        said, code = read_answer(self._console.terminal_fd, timeout_s, f"in the VM: {line}")
        if code:
            last = (said.strip().splitlines() or [f"it ended with {code}"])[-1]
            raise InnkeeperError(f"in the VM: {line}: {last}")
        return said


@contextmanager
def bench_vm(uri: str, state_dir: Path, run_dir: Path, programs: Sequence[str], say: Say) -> Iterator[BenchVm]:
    """Make one and boot it; nothing of it is left after the body. Raises Unsupported, BackendUnavailable, TimedOut."""
    if os.uname().machine != "x86_64":
        raise Unsupported(f"the VM that is measured is made for x86_64 only, and this is {os.uname().machine}")
    ensure_daemons(uri, run_dir, say)
    event_loop.ensure_running()
    link = Link(uri, "bench")
    folder = Path(tempfile.mkdtemp(prefix="innkeeper-bench-", dir=_place(state_dir)))
    folder.chmod(0o711)
    name = folder.name
    try:
        _make_files(folder, programs, say)
        kind = "kvm" if probe_kvm(run_dir).works else "qemu"
        say(f"booting the VM {name} ({kind}, {_MEMORY_MIB} MiB)")
        began = time.perf_counter()
        text = _domain_xml(name, kind, folder)
        uuid = str(link.call(f"start {name}", lambda connection: connection.createXML(text, 0).UUIDString(), _CALL_S))
        console = ConsoleSession(uri, uuid, name)
        try:
            assert console.terminal_fd is not None
            _wait_for(console.terminal_fd, _UP, _BOOT_S, f"the VM {name} did not boot")
            start_s = time.perf_counter() - began
            title = "VM (KVM)" if kind == "kvm" else "VM (emulated)"
            yield BenchVm(title, console, folder, start_s, _pid_of(name))
        finally:
            console.close()
    finally:
        with suppress(InnkeeperError):
            link.call(f"end {name}", lambda connection: connection.lookupByName(name).destroyFlags(0), _CALL_S)
        link.close()
        shutil.rmtree(folder, ignore_errors=True)
        Path(f"/var/log/libvirt/qemu/{name}.log").unlink(missing_ok=True)
        stop_daemons(uri, run_dir, say)


def read_answer(fd: int, timeout_s: float, what: str) -> tuple[str, int]:
    """Return what stands between the two marks, and the code in the second. Raises TimedOut, InnkeeperError."""
    data = b""
    deadline = time.monotonic() + timeout_s
    while not (end := _END.search(data)):
        data += _read(fd, deadline, f"{what}: not done after {timeout_s:g} s")
    body = data[: end.start()].partition(_BEGIN)[2]
    return body.decode(errors="replace").replace("\r", "").lstrip("\n"), int(end[1])


def _wait_for(fd: int, mark: bytes, timeout_s: float, what: str) -> None:
    data = b""
    deadline = time.monotonic() + timeout_s
    while mark not in data:
        data = data[-4096:] + _read(fd, deadline, f"{what} within {timeout_s:g} s")


def _read(fd: int, deadline: float, late: str) -> bytes:
    if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
        raise TimedOut(late)
    try:
        piece = os.read(fd, 65536)
    except OSError:
        piece = b""
    if not piece:
        raise InnkeeperError("the VM that is measured has ended")
    return piece


def _place(state_dir: Path) -> Path:
    """Return a folder that QEMU's own user can reach, on the disk of the state folder if possible."""
    path = state_dir.absolute()
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents)):
        return path
    return Path("/var/lib/libvirt/images")


def _make_files(folder: Path, programs: Sequence[str], say: Say) -> None:
    paths = [Path(found) for name in programs if (found := shutil.which(name))]
    with demo_parts(say) as parts:
        shutil.copyfile(parts.kernel, folder / "vmlinuz")
        script = Path(__file__).with_name("bench_init.sh").read_text(encoding="utf-8")
        packed = initramfs.build(parts.busybox, parts.modules, script, initramfs.programs(paths))
        (folder / "initramfs.gz").write_bytes(packed)
    try:
        command = ["qemu-img", "create", "-q", "-f", "qcow2", str(folder / "disk.qcow2"), f"{_DISK_MIB}M"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError as error:
        raise Unsupported("qemu-img is not installed", hint="apt install qemu-utils") from error
    if done.returncode:
        raise InnkeeperError(f"cannot make a disk: {done.stderr.strip()}")


def _domain_xml(name: str, kind: str, folder: Path) -> str:
    cpu = '<cpu mode="host-passthrough"/>' if kind == "kvm" else ""
    root = ET.fromstring(f"""
<domain type="{kind}"><name/><memory unit="MiB">{_MEMORY_MIB}</memory><vcpu>1</vcpu>
  <os><type arch="x86_64" machine="q35">hvm</type><kernel/><initrd/><cmdline>console=ttyS0 quiet panic=5</cmdline></os>
  <features><acpi/><apic/></features>{cpu}
  <devices>
    <disk type="file" device="disk"><driver name="qemu" type="qcow2" cache="none"/><source/>
      <target dev="vda" bus="virtio"/></disk>
    <interface type="user"><model type="virtio"/></interface>
    <serial type="pty"><target port="0"/></serial>
  </devices>
</domain>""")
    texts = {"name": name, "os/kernel": str(folder / "vmlinuz"), "os/initrd": str(folder / "initramfs.gz")}
    for path, value in texts.items():
        node = root.find(path)
        assert node is not None
        node.text = value
    source = root.find("devices/disk/source")
    assert source is not None
    source.set("file", str(folder / "disk.qcow2"))
    return ET.tostring(root, encoding="unicode")


def _pid_of(name: str) -> int | None:
    with suppress(OSError, ValueError):
        return int(Path(f"/run/libvirt/qemu/{name}.pid").read_text())
    return None
