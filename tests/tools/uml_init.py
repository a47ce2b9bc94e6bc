"""The first process under tests/tools/uml.py: set the machine up, run the command, power off.

Standard library only: it runs with `python -I`, before anything but the root is mounted.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import socket
import struct
import subprocess
import sys
import termios
import traceback
from pathlib import Path
from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV = 1, 2, 4
_LIBC = ctypes.CDLL(None, use_errno=True)
_NR_FINIT_MODULE, _NR_REBOOT = 313, 169  # x86_64, the only machine user-mode-linux runs on
_POWER_OFF = 0x4321FEDC
_TMPFS = ("/tmp", "/run", "/var/tmp", "/var/lib", "/root", "/mnt")
_V1 = ("cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "freezer", "devices")
_MODULES = (
    "overlay", "loop", "veth", "bridge", "br_netfilter", "ifb", "dummy", "tun",
    "nf_tables", "nft_chain_nat", "nft_masq", "nft_ct", "nf_nat", "x_tables", "xt_MASQUERADE", "xt_conntrack",
    "sch_tbf", "sch_htb", "sch_ingress", "sch_netem", "sch_fq_codel", "cls_u32", "cls_matchall", "act_police",
    "act_mirred", "squashfs", "fuse",
)  # fmt: skip
"""Loaded where the kernel has them: there is no modprobe inside that could do it on demand."""


def main(folder: str) -> int:
    """Do all of it; returns the command's exit code."""
    job: dict[str, Any] = json.loads(Path(folder, "job.json").read_text())
    _plain_output()
    _mount_basics()
    _show_again(job)
    mount("none", "/run/host", "hostfs", 0, folder)
    _mount_cgroups(job["cgroup"])
    load_modules(Path(job["modules"]) / platform.release())
    _loopback_up()
    environment = {**job["env"], "HOME": "/root", "TMPDIR": "/tmp", "INNKEEPER_UML": job["cgroup"],
                   "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis"}  # fmt: skip
    if _make_disk():
        environment["INNKEEPER_TEST_DISK"] = "/run/disk"
    print(job["started"], flush=True)
    code = _run(job["command"], job["cwd"], environment)
    Path("/run/host/exit").write_text(str(code))
    return code


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2), making the folder first. Raises OSError."""
    os.makedirs(target, exist_ok=True)
    if _LIBC.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {kind} on {target}: {os.strerror(number)}")


def _plain_output() -> None:
    """No carriage returns: the console is a terminal to the programs, a pipe to the host."""
    settings = termios.tcgetattr(1)
    settings[1] &= ~termios.OPOST
    termios.tcsetattr(1, termios.TCSANOW, settings)


def _mount_basics() -> None:
    mount("proc", "/proc", "proc")
    mount("sysfs", "/sys", "sysfs")
    mount("securityfs", "/sys/kernel/security", "securityfs")
    if not os.path.ismount("/dev"):
        mount("devtmpfs", "/dev", "devtmpfs")
    mount("devpts", "/dev/pts", "devpts", 0, "mode=620,ptmxmode=666")
    mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV)
    for folder in _TMPFS:
        if os.path.isdir(folder):
            mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777" if "tmp" in folder else "mode=755")
    os.environ["PATH"] = os.environ.get("PATH") or "/usr/sbin:/usr/bin:/sbin:/bin"


def _show_again(job: dict[str, Any]) -> None:
    """Show the host's checkout and Python again, where a tmpfs now hides them."""
    for path in job["show"]:
        if any(path.startswith(f"{folder}/") for folder in _TMPFS):
            mount("none", path, "hostfs", MS_RDONLY, path)


def _mount_cgroups(mode: str) -> None:
    top = "/sys/fs/cgroup"
    if mode == "v2":
        mount("cgroup2", top, "cgroup2")
        return
    mount("tmpfs", top, "tmpfs", 0, "mode=755")
    with open("/proc/cgroups") as file:
        offered = {line.split()[0] for line in file if not line.startswith("#")}
    for controller in _V1:
        if controller in offered:
            mount("cgroup", f"{top}/{controller}", "cgroup", 0, controller)
    if mode == "hybrid":
        mount("cgroup2", f"{top}/unified", "cgroup2")


def load_modules(folder: Path) -> None:
    """Load the modules of the list, each after those it needs; what the kernel lacks is passed over."""
    needs: dict[str, list[Path]] = {}
    for path in folder.rglob("*.ko"):
        needs[path.stem.replace("-", "_")] = [path]
    index = folder / "modules.dep"
    if index.exists():
        for line in index.read_text().splitlines():
            name, _, others = line.partition(":")
            files = [folder / file for file in (name, *others.split())]
            needs[files[0].stem.replace("-", "_")] = files
    for module in _MODULES:
        for path in reversed(needs.get(module, [])):
            _insert(path)


def _insert(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _LIBC.syscall(_NR_FINIT_MODULE, fd, b"", 0)  # EEXIST for one that is in already
    finally:
        os.close(fd)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", b"lo", 1)  # IFF_UP
        fcntl.ioctl(sock, 0x8914, request)  # SIOCSIFFLAGS


def _make_disk() -> bool:
    device = next((path for path in ("/dev/ubda", "/dev/ubd0") if os.path.exists(path)), None)
    if device is None:
        return False
    made = subprocess.run(["mkfs.ext4", "-q", "-F", device], check=False, stdout=subprocess.DEVNULL)
    if made.returncode != 0:
        return False
    mount(device, "/run/disk", "ext4")
    return True


def _run(command: list[str], cwd: str, environment: dict[str, str]) -> int:
    """Run it as a child and reap, as the first process must, until it ends."""
    try:
        child = subprocess.Popen(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"uml: cannot run {command[0]}: {error}", flush=True)
        return 127
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def power_off() -> None:
    """End the kernel, and with it every process in it."""
    os.sync()
    _LIBC.syscall(_NR_REBOOT, 0xFEE1DEAD, 672274793, _POWER_OFF, 0)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        power_off()
