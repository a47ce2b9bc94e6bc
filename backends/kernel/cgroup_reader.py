"""Reads one group's counters again and again, cheaply.

Files stay open and are read with `pread`; bytes that did not change are not parsed. Each file costs some
2 to 6 µs, so those that cannot have changed are not read at all: a group that used no CPU time since the last
pass cannot have forked, faulted or begun I/O. Now and then all are read all the same.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterable
from contextlib import suppress
from itertools import count

from backends.errors import KernelRefused
from backends.kernel import cgroup_parse as parse
from backends.kernel.cgroup_file import GuestVanished
from backends.metrics import Sample

SLOW_PASSES = 5
"""Long files (memory.stat) and what rarely changes are read every so many passes."""

FULL_PASSES = 20
"""Every file is read every so many passes, whatever the others said."""

_ALWAYS, _ACTIVE, _MOVING, _STARTED, _MEMORY, _IO, _SLOW = range(7)
"""When a file is read: in each pass; when CPU time was used; also while it still moves itself (a task that sleeps
in I/O uses no CPU, but waits); only while it moves (enforcement periods, once there is a quota); when memory use
changed or it still moves; when bytes of I/O moved; in slow passes."""

_stagger = count()

_CPU_STAT_V1 = parse.keyed(
    {
        b"nr_periods": ("cpu_periods", 1),
        b"nr_throttled": ("cpu_throttled_periods", 1),
        b"throttled_time": ("cpu_throttled_ns", 1),
    }
)
_CPU_STAT_V2 = parse.keyed(
    {
        b"usage_usec": ("cpu_usage_ns", 1000),
        b"nr_periods": ("cpu_periods", 1),
        b"nr_throttled": ("cpu_throttled_periods", 1),
        b"throttled_usec": ("cpu_throttled_ns", 1000),
    }
)
_USAGE_V2 = parse.keyed({b"usage_usec": ("cpu_usage_ns", 1000)})
_EVENTS_V2 = parse.keyed(
    {b"high": ("memory_high_events", 1), b"max": ("memory_max_events", 1), b"oom_kill": ("oom_kills", 1)}
)

_File = tuple[int, str, parse.Parse]
_V1_FILES: dict[str, tuple[_File, ...]] = {
    "cpuacct": ((_ALWAYS, "cpuacct.usage", parse.amount("cpu_usage_ns")),),
    "cpu": ((_STARTED, "cpu.stat", _CPU_STAT_V1),),
    "memory": (
        (_ALWAYS, "memory.usage_in_bytes", parse.amount("memory_bytes")),
        (_MEMORY, "memory.oom_control", parse.one_key(b"oom_kill", "oom_kills")),
        (_MEMORY, "memory.failcnt", parse.amount("memory_max_events")),
        (_SLOW, "memory.stat", parse.one_key(b"total_inactive_file", "memory_cache_bytes")),
        (_ALWAYS, "memory.limit_in_bytes", parse.v1_limit("memory_limit_bytes")),
        (_SLOW, "memory.memsw.usage_in_bytes", parse.amount("memsw_bytes")),
    ),
    "io": (
        (_MOVING, "blkio.throttle.io_service_bytes_recursive", parse.v1_io("io_read_bytes", "io_write_bytes")),
        (_IO, "blkio.throttle.io_serviced_recursive", parse.v1_io("io_read_ops", "io_write_ops")),
    ),
    "pids": ((_ACTIVE, "pids.current", parse.amount("pids")),),
}
_V2_FILES: dict[str, tuple[_File, ...]] = {
    "cpu": ((_ALWAYS, "cpu.stat", _CPU_STAT_V2),),
    "memory": (
        (_ALWAYS, "memory.current", parse.amount("memory_bytes")),
        (_MEMORY, "memory.events", _EVENTS_V2),
        (_SLOW, "memory.stat", parse.one_key(b"inactive_file", "memory_cache_bytes")),
        (_ALWAYS, "memory.max", parse.amount("memory_limit_bytes")),
        (_SLOW, "memory.swap.current", parse.amount("swap_bytes")),
    ),
    "io": ((_MOVING, "io.stat", parse.v2_io),),
    "pids": ((_ACTIVE, "pids.current", parse.amount("pids")),),
}
_PRESSURE: tuple[_File, ...] = (
    (_MOVING, "cpu.pressure", parse.pressure("cpu_pressure_us")),
    (_MOVING, "memory.pressure", parse.pressure("memory_pressure_us")),
    (_MOVING, "io.pressure", parse.pressure("io_pressure_us")),
)


def files_of(seats: dict[str, tuple[int, str]], unified: str | None) -> list[tuple[int, str, parse.Parse]]:
    """Return (how often, path, parser) for the controllers' (version, folder) and the v2 folder, if any."""
    found: list[_File] = []
    for controller, (version, directory) in seats.items():
        table = _V2_FILES if version == 2 else _V1_FILES
        found += [(often, f"{directory}/{name}", parser) for often, name, parser in table.get(controller, ())]
    if unified is not None:
        if not any(path.endswith(("/cpuacct.usage", f"{unified}/cpu.stat")) for _, path, _ in found):
            # Every v2 group has cpu.stat with its use, also where the cpu controller is bound to v1.
            found.append((_ALWAYS, f"{unified}/cpu.stat", _USAGE_V2))
        found += [(often, f"{unified}/{name}", parser) for often, name, parser in _PRESSURE]
    return found


class _Source:
    """One open file and what it said last."""

    __slots__ = ("fd", "moved", "parse", "raw", "size")

    def __init__(self, fd: int, parser: parse.Parse) -> None:
        self.fd, self.parse, self.raw = fd, parser, b""
        self.moved = True
        self.size = 256

    def update(self, fields: parse.Fields) -> None:
        """Read it again and parse it if the bytes changed. Raises OSError."""
        if self.fd < 0:
            return
        raw = os.pread(self.fd, self.size, 0)
        while len(raw) == self.size:
            self.size *= 4
            raw = os.pread(self.fd, self.size, 0)
        if raw == self.raw:
            self.moved = False
            return
        self.raw = raw
        self.moved = True
        fields.update(self.parse(raw))

    def stop(self) -> None:
        """Close it; from now on it reads as nothing."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self.moved = -1, False


class CgroupReader:
    """The counters of one group. Owns its file descriptors; close() it."""

    __slots__ = ("_fields", "_pass", "_sources", "_where")

    def __init__(self, where: str, files: Iterable[tuple[int, str, parse.Parse]]) -> None:
        self._where = where
        self._fields: parse.Fields = {}
        self._pass = -1
        self._sources: tuple[list[_Source], ...] = tuple([] for _ in range(_SLOW + 1))
        try:
            for often, path, parser in files:
                fd = _open(path)
                if fd is not None:
                    self._sources[often].append(_Source(fd, parser))
        except BaseException:
            self.close()
            raise
        if not any(self._sources):
            raise GuestVanished(f"cannot read counters of the group {where}: it is gone")

    def read(self, time_s: float, *, net_rx_bytes: int | None = None, net_tx_bytes: int | None = None) -> Sample:
        """Return the counters now; the time and the network's are the caller's. Raises GuestVanished."""
        slow, full = self._next_pass()
        sources, get = self._sources, self._fields.get
        cpu, memory, io = get("cpu_usage_ns"), get("memory_bytes"), (get("io_read_bytes"), get("io_write_bytes"))
        self._update(sources[_ALWAYS])
        active = full or get("cpu_usage_ns") != cpu
        if active:
            self._update(sources[_ACTIVE])
        self._update(sources[_MOVING], moved_only=not active)
        self._update(sources[_STARTED], moved_only=not (slow and active))
        self._update(sources[_MEMORY], moved_only=not (full or self._presses_on_memory(memory)))
        if full or (get("io_read_bytes"), get("io_write_bytes")) != io:
            self._update(sources[_IO])
        if slow:
            self._update(sources[_SLOW])
        return self._sample(time_s, net_rx_bytes, net_tx_bytes)

    def _presses_on_memory(self, before_bytes: int | None) -> bool:
        """True if memory use changed, or is so near its limit that it may have been held there."""
        now_bytes, limit_bytes = self._fields.get("memory_bytes"), self._fields.get("memory_limit_bytes")
        if now_bytes != before_bytes:
            return True
        return limit_bytes is not None and now_bytes is not None and now_bytes > limit_bytes - limit_bytes // 16

    def _next_pass(self) -> tuple[bool, bool]:
        """Return (slow, full) for this pass; the first is both."""
        first = self._pass < 0
        # From the second pass on readers take turns, so that not all guests' slow passes are the same.
        self._pass = next(_stagger) if first else self._pass + 1
        return first or self._pass % SLOW_PASSES == 0, first or self._pass % FULL_PASSES == 0

    def _update(self, sources: list[_Source], *, moved_only: bool = False) -> None:
        for source in sources:
            if moved_only and not source.moved:
                continue
            try:
                source.update(self._fields)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    raise GuestVanished(f"cannot read counters of the group {self._where}: it is gone") from error
                # The file is there but not served (PSI switched off at boot): absent from now on.
                source.stop()

    def _sample(self, time_s: float, net_rx_bytes: int | None, net_tx_bytes: int | None) -> Sample:
        get = self._fields.get
        memory = get("memory_bytes")
        swap = get("swap_bytes")
        memsw = get("memsw_bytes")
        if swap is None and memsw is not None and memory is not None:
            swap = max(0, memsw - memory)
        return Sample(
            time_s,
            get("cpu_usage_ns"),
            get("cpu_throttled_ns"),
            get("cpu_periods"),
            get("cpu_throttled_periods"),
            None,
            memory,
            get("memory_cache_bytes"),
            get("memory_limit_bytes"),
            get("memory_high_events"),
            get("memory_max_events"),
            get("oom_kills"),
            swap,
            get("io_read_bytes"),
            get("io_write_bytes"),
            get("io_read_ops"),
            get("io_write_ops"),
            net_rx_bytes,
            net_tx_bytes,
            get("pids"),
            get("cpu_pressure_us"),
            get("memory_pressure_us"),
            get("io_pressure_us"),
        )

    def close(self) -> None:
        """Close the files; may be called again."""
        for sources in self._sources:
            for source in sources:
                source.stop()


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise KernelRefused(f"open {path}", error, hint="raise the limit of open files (ulimit -n)") from error
        return None


def raise_file_limit() -> int:
    """Raise this process's soft limit of open files to the hard one and return it.

    A reader holds about a dozen files, so the usual 1024 end at 80 guests.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
