"""Block devices as I/O limits see them: whole disks, by major and minor number.

The kernel limits a request queue, so a whole disk and never a partition (cgroup-v2.rst, "IO Interface
Files": "io.max"; cgroup-v1/blkio-controller.rst, "Throttling/Upper limit policy").
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from functools import lru_cache

from backends.errors import UsageError
from backends.kernel.cgroup_file import read_text

_VIRTUAL = ("loop", "ram", "zram", "fd", "sr", "nbd", "mtdblock")
"""Their I/O is counted again on a disk below, or is none at all."""


@dataclass(frozen=True, slots=True)
class Disk:
    """One whole disk."""

    name: str
    """As in /sys/block: "vda", "nvme0n1"."""

    number: str
    """"MAJOR:MINOR", as the cgroup files name it."""

    @property
    def path(self) -> str:
        """Its device node: "/dev/vda"."""
        return "/dev/" + self.name.replace("!", "/")


def whole_disks() -> tuple[Disk, ...]:
    """Return the disks that hold data themselves, by name.

    Left out: loop and memory devices, empty drives, and what is stacked on other disks (LVM, dm-crypt, md),
    since its I/O passes the disks below and is limited there.
    """
    try:
        names = sorted(os.listdir("/sys/block"))
    except FileNotFoundError:
        return ()
    found = []
    for name in names:
        number = read_text(f"/sys/block/{name}/dev")
        if number and _is_real(f"/sys/block/{name}", name):
            found.append(Disk(name, number))
    return tuple(found)


def disk_of(device: str) -> Disk:
    """Return the whole disk of a device node, a partition's being the disk it is on. Raises UsageError."""
    try:
        status = os.stat(device if device.startswith("/") else f"/dev/{device}")
    except OSError as error:
        raise UsageError(f"there is no device {device}: {error.strerror}", hint=_known()) from error
    if not stat.S_ISBLK(status.st_mode):
        raise UsageError(f"{device} is no block device", hint=_known())
    found = _disk_of_number(status.st_rdev)
    if found is None:
        raise UsageError(f"the kernel does not list {device} under /sys/dev/block", hint=_known())
    return found


def disk_holding(path: str) -> Disk | None:
    """Return the disk that a file is on; None if it is on none (tmpfs, overlay, network, several disks)."""
    return _disk_of_number(os.stat(path).st_dev)


def disk_named(number: str) -> Disk | None:
    """Return the disk of a "MAJOR:MINOR", or None if there is none (any more)."""
    folder = os.path.realpath(f"/sys/dev/block/{number}")
    return Disk(os.path.basename(folder), number) if os.path.isdir(folder) else None


@lru_cache(maxsize=256)
def is_counted(number: str) -> bool:
    """True if I/O statistics of this "MAJOR:MINOR" add up with those of other disks, nothing counted twice."""
    folder = os.path.realpath(f"/sys/dev/block/{number}")
    return not os.path.isdir(folder) or _is_real(folder, os.path.basename(folder), may_be_empty=True)


def _disk_of_number(device: int) -> Disk | None:
    folder = os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if os.path.exists(f"{folder}/partition"):
        folder = os.path.dirname(folder)
    number = read_text(f"{folder}/dev")
    return Disk(os.path.basename(folder), number) if number else None


def _is_real(folder: str, name: str, *, may_be_empty: bool = False) -> bool:
    if name.rstrip("0123456789") in _VIRTUAL or read_text(f"{folder}/hidden") == "1":
        return False
    try:
        if os.listdir(f"{folder}/slaves"):
            return False
    except FileNotFoundError:
        pass
    return may_be_empty or read_text(f"{folder}/size") not in (None, "0")


def _known() -> str:
    names = [disk.path for disk in whole_disks()]
    return "disks of this host: " + ", ".join(names) if names else ""
