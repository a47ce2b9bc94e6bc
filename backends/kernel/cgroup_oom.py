"""Being told when the kernel kills for memory in a group: a file that becomes readable, for any select loop.

v2: memory.events changes (inotify; cgroup-v2.rst). v1: an eventfd registered for memory.oom_control
(cgroup-v1/memory.rst, section 10), which also fires when the group is removed.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from backends.errors import KernelRefused, Unsupported
from backends.kernel import linux
from backends.kernel.cgroup import Cgroup
from backends.kernel.cgroup_file import GuestVanished, parse_amount, parse_keyed, read_text, write_text

_IN_MODIFY, _IN_DELETE_SELF = 0x2, 0x400


class OomWatch:
    """Tells of kills for want of memory in one group: wait until fileno() is readable, then ask kills().

    ::

        selector.register(watch, EVENT_READ)
        …
        for _ in range(watch.kills()): …
        if watch.is_over: …
    """

    def __init__(self, group: Cgroup) -> None:
        """Begin to watch. Raises GuestVanished, Unsupported without a memory controller, KernelRefused."""
        seat = group.seat("memory")
        if seat is None:
            raise Unsupported("this host counts no memory in control groups, so nothing tells of its want")
        version, self._directory = seat
        if not os.path.isdir(self._directory):
            raise GuestVanished(f"cannot watch {group.path}: the group is gone")
        self._extra: int | None = None
        self._count = self._kills_now(version)
        self._version = version
        self._fd = self._watch_v2() if version == 2 else self._watch_v1()

    def _watch_v2(self) -> int:
        fd = linux.inotify_init()
        try:
            for name in ("memory.events", "cgroup.events"):
                linux.inotify_add_watch(fd, Path(self._directory, name), _IN_MODIFY | _IN_DELETE_SELF)
        except OSError as error:
            os.close(fd)
            raise self._refused(error) from error
        return fd

    def _watch_v1(self) -> int:
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._extra = os.open(f"{self._directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            write_text(f"{self._directory}/cgroup.event_control", f"{fd} {self._extra}")
        except (OSError, KernelRefused) as error:
            os.close(fd)
            self._close_extra()
            raise self._refused(error) from error
        return fd

    def _refused(self, error: OSError | KernelRefused) -> Exception:
        if error.errno == errno.ENOENT and not os.path.isdir(self._directory):
            return GuestVanished(f"cannot watch {self._directory}: the group is gone")
        if isinstance(error, KernelRefused):
            return error
        return KernelRefused(f"watch {self._directory} for want of memory", error)

    def fileno(self) -> int:
        """The file to wait for."""
        return self._fd

    def kills(self) -> int:
        """Return how often it happened since the last call; 0 if it was something else. Never waits.

        On v1 the notice comes before the kill, so a notice counts even while the kernel's counter stands still.
        """
        notices = self._drain()
        now = self._kills_now(self._version)
        new, self._count = max(0, now - self._count), max(now, self._count)
        if self._version == 1 and notices and not new and not self.is_over:
            self._count += 1  # its kill, when it is counted, is this one
            return 1
        return new

    def _drain(self) -> int:
        with suppress(BlockingIOError):
            if self._version == 1:
                return os.eventfd_read(self._fd)
            return len(os.read(self._fd, 4096))
        return 0

    def _kills_now(self, version: int) -> int:
        name = "memory.events" if version == 2 else "memory.oom_control"
        return parse_amount(parse_keyed(read_text(f"{self._directory}/{name}")).get("oom_kill")) or 0

    @property
    def is_over(self) -> bool:
        """True once no process is left in the group, or it is gone: nothing more will come."""
        if self._version == 2:
            return parse_keyed(read_text(f"{self._directory}/cgroup.events")).get("populated") != "1"
        return not os.path.isdir(self._directory)

    def close(self) -> None:
        """End watching; may be called again."""
        self._close_extra()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _close_extra(self) -> None:
        if self._extra is not None:
            os.close(self._extra)
        self._extra = None
