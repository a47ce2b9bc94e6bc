"""How a process gets into its groups without waiting for the kernel's grace periods.

Writing a pid to cgroup.procs takes a lock that all forks and exits of the system share; the first writer after
a quiet moment waits for an RCU grace period, 5 to 15 ms (kernel/cgroup/cgroup.c, cgroup_attach_lock). Two ways
need no such lock:

* v1: a thread that writes 0 to `tasks` moves only itself, so the one thread of a fresh process moves it whole;
* v2: a process can be born in a group (clone3(2), CLONE_INTO_CGROUP, Linux 5.7).

::

    entrance = Entrance(group)             # a process that may write there opens the files
    pid = entrance.fork()                  # single-threaded: like os.fork(), the child is in the v2 group
    if pid == 0:
        entrance.enter()                   # single-threaded: now in all groups
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from backends.errors import KernelRefused
from backends.kernel import cloning
from backends.kernel.cgroup_file import GuestVanished
from backends.kernel.cgroup_tasks import CgroupTasks


class Entrance:
    """Open files of a group, by which a process enters it; its children inherit them. Close it."""

    __slots__ = ("_inside", "_procs", "_tasks", "_unified", "path")

    def __init__(self, group: CgroupTasks) -> None:
        """Open them. Raises GuestVanished, KernelRefused."""
        self.path = group.path
        self._inside = False
        self._unified = self._procs = -1
        self._tasks: list[int] = []
        try:
            for directory in group.directories.values():
                if directory == group.unified:
                    self._unified = _open(directory, os.O_RDONLY | os.O_DIRECTORY)
                    self._procs = _open(f"{directory}/cgroup.procs", os.O_WRONLY)
                    cloning.prepare()
                else:
                    self._tasks.append(_open(f"{directory}/tasks", os.O_WRONLY))
        except BaseException:
            self.close()
            raise

    @property
    def fds(self) -> list[int]:
        """The open files, to be sent to another process: v2's two first, which are -1 where there is no v2."""
        return [self._unified, self._procs, *self._tasks]

    @property
    def has_v2(self) -> bool:
        """True if the group is in the v2 hierarchy too."""
        return self._unified >= 0

    @classmethod
    def received(cls, path: str, fds: Sequence[int], *, has_v2: bool) -> Entrance:
        """Return an entrance of files that came over a socket: `fds` without the -1."""
        made = cls.__new__(cls)
        made.path, made._inside = path, False
        made._unified, made._procs = fds[:2] if has_v2 else (-1, -1)
        made._tasks = list(fds[2 if has_v2 else 0 :])
        return made

    def fork(self) -> int:
        """Like os.fork(), but the child is in the v2 group from its first moment, where the kernel can do that.

        Only for a process of one thread. A child of clone3 keeps the C library's idea of its parent's thread id,
        which matters to raise(3) and to nothing that Python does before execve(2).
        Raises KernelRefused: EBUSY if the group hands controllers down, EAGAIN at a limit of tasks.
        """
        if self._unified < 0:
            return os.fork()
        try:
            pid = cloning.clone(0, self._unified)
        except OSError as error:
            if error.errno in cloning.UNAVAILABLE:
                return os.fork()
            raise KernelRefused(f"start a process in the group {self.path}", error) from error
        if pid == 0:
            self._inside = True
        return pid

    def bear(self, flags: int) -> int:
        """Make a process in new namespaces (CLONE_NEW… flags) and in the v2 group. Raises OSError."""
        pid = cloning.clone(flags, self._unified)
        if pid == 0:
            self._inside = self._unified >= 0
        return pid

    def enter(self) -> None:
        """Put this process, which must have one thread, into the group in all hierarchies. Raises KernelRefused."""
        try:
            for fd in self._tasks:
                os.write(fd, b"0")
            if not self._inside and self._procs >= 0:
                os.write(self._procs, b"0")
                self._inside = True
        except OSError as error:
            raise KernelRefused(f"enter the group {self.path}", error) from error

    def close(self) -> None:
        """Close the files; may be called again."""
        for fd in (self._unified, self._procs, *self._tasks):
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self._unified = self._procs = -1
        self._tasks = []


@dataclass(frozen=True, slots=True)
class EnterGroup:
    """Put the process that runs the step into a group, as its only thread."""

    path: str
    entrance: Entrance | None = None
    """None where the step is only told about."""

    kind: str = "attach"

    def describe(self) -> str:
        return f"enter the group {self.path} in every hierarchy"

    def by_hand(self) -> str:
        return f"for f in /sys/fs/cgroup/*/{self.path}/cgroup.procs; do echo $$ > $f; done"

    def run(self) -> None:
        """Enter, and close the files. Raises KernelRefused."""
        assert self.entrance is not None
        self.entrance.enter()
        self.entrance.close()

    def undo(self) -> None:
        """Nothing: the kernel takes a process out when it ends."""


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise GuestVanished(f"cannot enter a group: {path} is gone") from error
    except OSError as error:
        raise KernelRefused(f"open {path}", error) from error
