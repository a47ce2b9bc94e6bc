"""A libvirtd of the tests' own: beside the system's, with its own sockets, definitions, logs and state.

It runs in a private mount namespace in which /etc/libvirt, /run/libvirt and libvirt's folders below /var are
folders of the test's. Its guests are real QEMUs of this host, in this host's cgroups.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

import libvirt

from backends.kernel.cgroup import detect
from backends.libvirt.demo import wait_until_booted
from backends.libvirt.demo_domain import DemoShape, domain_xml
from backends.libvirt.demo_kernel import demo_parts
from backends.libvirt.initramfs import build
from tests.tools.waiting import wait_until

_START = """
mount -t tmpfs -o mode=755 run /run
mkdir /run/libvirt /run/lock
mount --bind "$1/etc" /etc/libvirt
mount --bind "$1/run" /run/libvirt
for part in lib log cache; do mount --bind "$1/$part" /var/$part/libvirt; done
exec libvirtd -p "$1/libvirtd.pid"
"""

_LIBVIRTD_CONF = """
unix_sock_dir = "{base}/sock"
auth_unix_rw = "none"
host_uuid = "{uuid}"
keepalive_interval = -1
"""

_QEMU_CONF = """
stdio_handler = "file"
user = "root"
group = "root"
"""


class PrivateLibvirt:
    """The daemon; start() it, stop() it, remove() all that is left."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="inn-virt-", dir="/tmp"))
        self.base.chmod(0o755)
        for name in ("etc", "run", "lib", "log", "cache", "sock", "guests"):
            (self.base / name).mkdir()
        shutil.copytree("/etc/libvirt", self.base / "etc", dirs_exist_ok=True)
        shutil.rmtree(self.base / "etc" / "qemu", ignore_errors=True)
        (self.base / "etc" / "libvirtd.conf").write_text(_LIBVIRTD_CONF.format(base=self.base, uuid=uuid.uuid4()))
        (self.base / "etc" / "qemu.conf").write_text(_QEMU_CONF)
        self.uri = f"qemu+unix:///system?socket={self.base}/sock/libvirt-sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._machine_groups = {path for path in _machine_groups() if not path.exists()}

    @property
    def pid(self) -> int:
        """The daemon's."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, also again after kill(); returns when it answers."""
        with open(self.base / "libvirtd.log", "ab") as log:
            environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
            self._process = subprocess.Popen(
                ["unshare", "-m", "--propagation", "private", "sh", "-ec", _START, "sh", str(self.base)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        wait_until(self._answers, 30, f"libvirtd answers; see {self.base}/libvirtd.log")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.base / "libvirtd.log").read_text()[-2000:]
        try:
            libvirt.open(self.uri).close()
        except libvirt.libvirtError:
            return False
        return True

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the daemon and wait for it; its guests go on."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def virsh(self, *words: str) -> str:
        """Run virsh on it, as another user of the host would."""
        done = subprocess.run(["virsh", "-q", "-c", self.uri, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def remove(self) -> None:
        """End its guests and itself; leave nothing."""
        try:
            if self._process is not None:
                self._process.send_signal(signal.SIGCONT)
            self._end_guests()
            self.kill(signal.SIGTERM)
        finally:
            self.kill()
            for folder in self._machine_groups:
                with suppress(OSError):
                    folder.rmdir()
            shutil.rmtree(self.base, ignore_errors=True)

    def _end_guests(self) -> None:
        for note in (self.base / "run" / "qemu").glob("*.pid"):
            with suppress(ValueError, ProcessLookupError):
                os.kill(int(note.read_text()), signal.SIGKILL)
        with suppress(libvirt.libvirtError):
            connection = libvirt.open(self.uri)
            for domain in connection.listAllDomains():
                with suppress(libvirt.libvirtError):
                    if domain.isActive():
                        domain.destroy()
            connection.close()


def _machine_groups() -> list[Path]:
    return [Path(hierarchy.mount, "machine") for hierarchy in detect().hierarchies]


class BootFiles:
    """A kernel and an initramfs that many guests boot from."""

    def __init__(self, folder: Path) -> None:
        self.kernel, self.initramfs = folder / "vmlinuz", folder / "initramfs.gz"
        folder.mkdir()
        script = Path(__file__).parents[2] / "backends" / "libvirt" / "demo_init.sh"
        with demo_parts(lambda _: None) as parts:
            shutil.copyfile(parts.kernel, self.kernel)
            self.initramfs.write_bytes(build(parts.busybox, parts.modules, script.read_text()))


class Machine:
    """A guest of the tests, defined and not started. forget() it."""

    def __init__(self, daemon: PrivateLibvirt, files: BootFiles, shape: DemoShape, disk_format: str = "qcow2") -> None:
        self.daemon = daemon
        self.name = f"inn-test-{uuid.uuid4().hex[:8]}"
        self.folder = daemon.base / "guests" / self.name
        self.folder.mkdir()
        os.link(files.kernel, self.folder / "vmlinuz")
        os.link(files.initramfs, self.folder / "initramfs.gz")
        self.disk = self.folder / "disk.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", disk_format, str(self.disk), "32M"], check=True)
        self.console_log = self.folder / "console.log"
        xml = domain_xml(self.name, "qemu", self.folder, shape).replace('type="qcow2"', f'type="{disk_format}"')
        with self._connected() as connection:
            self.uuid = connection.defineXML(xml).UUIDString()

    def wait_until_up(self) -> None:
        """Wait for the guest's own word."""
        wait_until_booted(self.console_log, 60)

    def forget(self) -> None:
        """End it and take it away."""
        with self._connected() as connection, suppress(libvirt.libvirtError):
            domain = connection.lookupByUUIDString(self.uuid)
            if domain.isActive():
                domain.destroy()
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _connected(self) -> _Connected:
        return _Connected(self.daemon.uri)


class _Connected:
    def __init__(self, uri: str) -> None:
        self._connection = libvirt.open(uri)

    def __enter__(self) -> libvirt.virConnect:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()
