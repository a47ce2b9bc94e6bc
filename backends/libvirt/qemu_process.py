"""The QEMU of a local guest, as a process of this host."""

from __future__ import annotations

import os
import re
from pathlib import Path

from backends.kernel.cgroup import Cgroup, CgroupHost

PID_FOLDERS = ("/run/libvirt/qemu", "/var/run/libvirt/qemu")
_LIBVIRT_GROUP = re.compile(r"(machine-)?(qemu|lxc)(-|\\x2d)\d+")
"""Last part of the group that libvirt makes for a guest: qemu-1-web.libvirt-qemu, machine-qemu\\x2d1\\x2dweb.scope."""


def find_pid(uuid: str, name: str) -> int | None:
    """Return the pid of the guest's QEMU: from libvirt's pid file, else by its -uuid in /proc; None if not here."""
    for folder in _pid_folders():
        try:
            pid = int(Path(folder, f"{name}.pid").read_text())
        except (OSError, ValueError):
            continue
        if is_qemu_of(pid, uuid):
            return pid
    return next((pid for pid in _all_pids() if is_qemu_of(pid, uuid)), None)


def is_qemu_of(pid: int, uuid: str) -> bool:
    """True if the process has this guest's UUID on its command line."""
    arguments = command_line(pid)
    return "-uuid" in arguments and uuid in arguments


def command_line(pid: int) -> list[str]:
    """Return the arguments of a process; empty if it is gone."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return raw.decode(errors="replace").rstrip("\0").split("\0")


def group_of_qemu(host: CgroupHost, pid: int) -> Cgroup | None:
    """Return the group that libvirt made for the guest, above its emulator and vcpuN; None if it made none.

    Where libvirt made none in a hierarchy, QEMU is in the top group or in somebody's login session: counters
    of that are not the guest's, so such hierarchies are left out. libvirt 9 does so with cpuacct where it is
    not mounted together with cpu.
    """
    group = host.group_of(pid, adjust=above_emulator)
    group.directories = {
        mount: folder
        for mount, folder in group.directories.items()
        if _LIBVIRT_GROUP.match(os.path.basename(folder)) and folder != mount
    }
    return group if group.directories else None


def above_emulator(path: str) -> str:
    """Return the guest's own group for the path of the one that QEMU's main thread is in."""
    return path.strip("/").removesuffix("/emulator").removesuffix("/libvirt")


def started_s(pid: int) -> float | None:
    """Return when a process began, in seconds since the epoch."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/stat").read_text()
    except OSError:
        return None
    ticks = int(stat.rpartition(")")[2].split()[19])
    found = re.search(r"^btime (\d+)", boot, re.MULTILINE)
    return int(found[1]) + ticks / os.sysconf("SC_CLK_TCK") if found else None


def _pid_folders() -> list[str]:
    own = os.environ.get("XDG_RUNTIME_DIR")
    return [*PID_FOLDERS, *([f"{own}/libvirt/qemu/run"] if own else [])]


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
