"""The processes of a control group: list them, kill them all, freeze and thaw them.

cgroup-v2.rst, "Core Interface Files" (cgroup.kill, cgroup.freeze, cgroup.events);
cgroup-v1/freezer-subsystem.rst.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from backends.errors import KernelRefused, TimedOut, Unsupported
from backends.kernel.cgroup_file import GuestVanished, parse_keyed, read_text, write_text
from backends.kernel.cgroup_steps import sub_groups


class CgroupTasks:
    """What one can do to the processes of a group, whichever hierarchies it is in."""

    def __init__(self, path: str, directories: Mapping[str, str], unified: str | None, freezer: str | None) -> None:
        self.path = path
        """Its name below the tops of the hierarchies."""

        self.directories = dict(directories)
        """Mount point of a hierarchy → the group's folder in it."""

        self.unified = unified
        """Its folder in the v2 hierarchy; None on a v1 host."""

        self._freezer = freezer
        self._nudges = 0
        self._main = unified or freezer or next(iter(self.directories.values()), "")

    def exists(self) -> bool:
        """True if it is there in at least one hierarchy."""
        return any(os.path.isdir(directory) for directory in self.directories.values())

    def procs(self) -> list[int]:
        """Return its processes, those of groups below too, smallest pid first.

        Pids are as this process sees them; one from another pid namespace shows as 0 and is left out.
        """
        return sorted(set(_procs_below(self._main))) if self._main else []

    def is_populated(self) -> bool:
        """True if a live process is in it or below it."""
        if self.unified is not None:
            events = parse_keyed(read_text(f"{self.unified}/cgroup.events"))
            if events.get("populated") == "1":
                return True
        return any(_has_procs(directory) for directory in self.directories.values())

    def kill(self, timeout_s: float = 5.0, wait: Callable[[float], object] = time.sleep) -> None:
        """Kill every process in it and wait until it is empty, also if it is frozen. Raises TimedOut.

        wait is called with the seconds between two looks, for who has something else to do meanwhile.

        cgroup.kill (cgroup-v2.rst, Linux 5.14) is one act that no fork escapes. Without it the group is
        frozen, each process sent SIGKILL, thawed, and so on until none is left. A v1 frozen task dies only
        once it is thawed (freezer-subsystem.rst).
        """
        deadline, pause_s = time.monotonic() + timeout_s, 0.001
        while True:
            self.kill_once()
            if not self.is_populated():
                return
            if time.monotonic() > deadline:
                left = ", ".join(map(str, self.procs()[:5]))
                raise TimedOut(f"processes of {self.path} do not end within {timeout_s:g} s of SIGKILL: {left}")
            wait(pause_s)
            pause_s = min(pause_s * 2, 0.05)

    def kill_once(self) -> None:
        """Send SIGKILL to every process in it, also if it is frozen, and do not wait."""
        if not (self.unified and _try_write(f"{self.unified}/cgroup.kill", "1")):
            self._set_v1_freezer("FROZEN")
        for pid in self._all_procs():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._set_v1_freezer("THAWED")
        if self.unified:
            _try_write(f"{self.unified}/cgroup.freeze", "0")

    def _all_procs(self) -> set[int]:
        return {pid for directory in self.directories.values() for pid in _procs_below(directory)}

    def freeze(self, timeout_s: float = 5.0) -> None:
        """Stop every task in it; returns when all are stopped. Raises TimedOut, and thaws again then.

        cgroup.freeze in v2 (Linux 5.2), freezer.state in v1 (freezer-subsystem.rst).
        """
        self.set_frozen(True)
        if not _wait(self.is_frozen, timeout_s, self.freeze_again_if_v1):
            with suppress(GuestVanished):
                self.set_frozen(False)
            raise TimedOut(f"{self.path} did not freeze within {timeout_s:g} s: a task waits in the kernel")

    def thaw(self, timeout_s: float = 5.0) -> None:
        """Let them go on; returns when they do."""
        self.set_frozen(False)
        if not _wait(lambda: not self.is_frozen(), timeout_s):
            raise TimedOut(f"{self.path} did not thaw within {timeout_s:g} s: a group above it is frozen")

    def is_frozen(self) -> bool:
        """True if all its tasks are stopped."""
        if self.unified and parse_keyed(read_text(f"{self.unified}/cgroup.events")).get("frozen") == "1":
            return True
        directory = self._freezer
        return directory is not None and read_text(f"{directory}/freezer.state") == "FROZEN"

    def is_frozen_itself(self) -> bool:
        """True if it was told to freeze, not a group above it, whether or not a task is in it."""
        if self.unified and read_text(f"{self.unified}/cgroup.freeze") == "1":
            return True
        directory = self._freezer
        return directory is not None and read_text(f"{directory}/freezer.self_freezing") == "1"

    def set_frozen(self, frozen: bool) -> None:
        """Tell it to stop or to go on, and do not wait. Raises Unsupported, GuestVanished."""
        if not self.directories:
            raise Unsupported("it has no control group to be paused by", hint="run as root, or in a delegated cgroup")
        if not self.exists():
            raise GuestVanished(f"cannot freeze or thaw {self.path}: the group is gone")
        v2_file = f"{self.unified}/cgroup.freeze" if self.unified else ""
        if v2_file and os.path.exists(v2_file):
            write_text(v2_file, "1" if frozen else "0")
            if not frozen:
                self._set_v1_freezer("THAWED")
        elif self._freezer is None:
            raise Unsupported("this kernel has no cgroup freezer", hint="it is in Linux 5.2 and later with cgroup v2")
        else:
            write_text(f"{self._freezer}/freezer.state", "FROZEN" if frozen else "THAWED")

    def freeze_again_if_v1(self) -> None:
        """Go on with a freeze that hangs; to be called between looks at it."""
        # A v1 freeze can hang half-way (FREEZING) on tasks that were waking up or being made; writing again goes
        # on with it, and letting all go for a moment now and then gets it out of the rarest knots.
        directory = self._freezer
        if directory is not None and read_text(f"{directory}/freezer.state") == "FREEZING":
            self._nudges += 1
            if self._nudges % 25 == 0:
                self._set_v1_freezer("THAWED")
                time.sleep(0.01)
            self._set_v1_freezer("FROZEN")

    def _set_v1_freezer(self, state: str) -> None:
        directory = self._freezer
        if directory is not None:
            _try_write(f"{directory}/freezer.state", state)


def _procs_below(directory: str) -> list[int]:
    found = []
    for folder in sub_groups(directory):
        for line in (_read_procs(folder) or "").split():
            if line != "0":
                found.append(int(line))
    return found


def _read_procs(folder: str) -> str | None:
    try:
        return read_text(f"{folder}/cgroup.procs")
    except KernelRefused as error:
        if error.errno == errno.EOPNOTSUPP:  # a threaded group: its processes show in the group above
            return None
        raise


def _has_procs(directory: str) -> bool:
    return any(_read_procs(folder) for folder in sub_groups(directory))


def _try_write(path: str, text: str) -> bool:
    try:
        write_text(path, text)
    except (GuestVanished, KernelRefused):
        return False
    return True


def _wait(condition: Callable[[], bool], timeout_s: float, nudge: Callable[[], None] = lambda: None) -> bool:
    deadline, pause_s = time.monotonic() + timeout_s, 0.0005
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.02)
        nudge()
    return True
