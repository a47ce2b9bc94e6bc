"""What a run leaves on the host: its look before and after must be the same."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lanes.lane import RUN_MARK


@dataclass(frozen=True, slots=True)
class Host:
    """What could be left behind, at one moment."""

    cgroups: frozenset[str]
    mounts: frozenset[str]
    links: frozenset[str]
    folders: frozenset[str]
    machines: frozenset[str]


def look() -> Host:
    """Read the host as it is now."""
    return Host(
        cgroups=frozenset(_cgroups()),
        mounts=frozenset(_mounts()),
        links=frozenset(os.listdir("/sys/class/net")),
        folders=frozenset(_folders()),
        machines=frozenset(_machines()),
    )


def left_behind(before: Host, scratch: Path, *, patience_s: float = 5.0) -> list[str]:
    """Say what is there now that was not before, a line each; what is just going gets some time."""
    deadline = time.monotonic() + patience_s
    while True:
        found = _difference(before, look()) + _processes(scratch)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.25)


def _difference(before: Host, after: Host) -> list[str]:
    pairs = {
        "cgroup": after.cgroups - before.cgroups,
        "mount": after.mounts - before.mounts,
        "network link": after.links - before.links,
        "folder": after.folders - before.folders,
        "virtual machine": after.machines - before.machines,
    }
    return [f"{kind} {name}" for kind, names in pairs.items() for name in sorted(names)]


def _cgroups() -> list[str]:
    """Return the uppermost cgroups with our name, without the hierarchy: the host's own come and go."""
    found = set()
    for _, folders, _ in os.walk("/sys/fs/cgroup"):
        ours = [name for name in folders if name.startswith("inn")]
        found.update(ours)
        folders[:] = [name for name in folders if name not in ours]
    return list(found)


def _mounts() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _folders() -> list[str]:
    """Return what of ours lies outside the run's own folder, which the run itself removes."""
    places = [Path("/tmp"), Path("/var/tmp"), Path("/run"), Path("/var/lib"), Path("/dev/shm"), Path("/run/netns")]
    found = []
    for place in places:
        with contextlib.suppress(OSError):
            found += [str(entry) for entry in place.iterdir() if "innkeeper" in entry.name or entry.name[:4] == "inn-"]
    return found


def _machines() -> list[str]:
    if not shutil.which("virsh") or not Path("/run/libvirt/libvirt-sock").exists():
        return []
    command = ["virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
        return done.stdout.split()
    return []


def _processes(scratch: Path) -> list[str]:
    """Return processes that this run started, by the mark in their environment, but for ourselves."""
    mark = f"{RUN_MARK}={scratch}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found.append(f"process {entry.name} ({line[:120]})")
    return found
