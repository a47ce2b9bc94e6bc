"""A memory limit below present use on cgroup v1, with the outcome it has on v2: the OOM killer makes room.

v2 takes any memory.max, reclaims, and kills if that is not enough (cgroup-v2.rst, "memory.max"). v1 refuses
with EBUSY what it cannot reclaim to (admin-guide/cgroup-v1/memory.rst, section 3.1). So here the limit goes
down to what is used now, and a small process that asks for more memory in the group makes the kernel's own
OOM killer choose a victim there, which it counts; until the limit that is wanted fits.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from dataclasses import dataclass

from backends.errors import KernelRefused
from backends.kernel.cgroup_file import parse_amount, parse_keyed, read_text, write_text
from backends.kernel.cgroup_steps import WriteFile

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TIMEOUT_S = 10.0
_PRESS = """
import mmap, os, sys
with open(sys.argv[1], "w") as procs:
    procs.write("0")
block = mmap.mmap(-1, 64 << 20)
for page in range(0, len(block), mmap.PAGESIZE):
    block[page] = 1
"""
"""Enters the group and touches memory page by page; it ends when it has it or when it is itself the victim."""


@dataclass(slots=True)
class ShrinkMemory(WriteFile):
    """Write memory.limit_in_bytes, making room by the OOM killer where the kernel refuses."""

    def run(self) -> None:
        """Write it. Raises KernelRefused if no room can be made."""
        before = read_text(self.path)
        try:
            write_text(self.path, self.text)
        except KernelRefused as error:
            if error.errno != errno.EBUSY:
                raise
            self._make_room(before, error)
        self._before = before

    def _make_room(self, before: str | None, refused: KernelRefused) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        directory = os.path.dirname(self.path)
        while time.monotonic() < deadline:
            _limit_to_use(directory, self.path)
            _press(directory)
            if _writes(self.path, self.text):
                return
        if before is not None:
            write_text(self.path, before)
        raise refused


def _limit_to_use(directory: str, path: str) -> None:
    """Set the limit to the least the kernel takes now; use may change between reading and writing."""
    slack = 0
    while slack <= 1 << 30:
        used = parse_amount(read_text(f"{directory}/memory.usage_in_bytes")) or 0
        if _writes(path, str((used + slack) // _PAGE * _PAGE)):
            return
        slack = max(slack * 2, 16 * _PAGE)


def _press(directory: str) -> None:
    """Ask for memory in the group until the kernel has killed something in it."""
    kills = _kills(directory)
    command = [sys.executable, "-I", "-S", "-c", _PRESS, f"{directory}/cgroup.procs"]
    import subprocess  # costs 3 ms, for what is rare

    presser = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while presser.poll() is None and _kills(directory) == kills:
            time.sleep(0.005)
    finally:
        presser.kill()
        presser.wait()


def _kills(directory: str) -> int:
    return parse_amount(parse_keyed(read_text(f"{directory}/memory.oom_control")).get("oom_kill")) or 0


def _writes(path: str, text: str) -> bool:
    try:
        write_text(path, text)
    except KernelRefused as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True
