"""Reads one group's counters again and again, cheaply.

Files stay open and are read with `pread`; bytes that did not change are not parsed. A group that used no CPU
time since the last pass cannot have forked, faulted or submitted I/O, so then only CPU and memory use are
read, and the rest every few passes. Pressure and I/O are read on while they still move: a task that sleeps in
I/O uses no CPU but does wait.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterable
from contextlib import suppress

from backends.errors import KernelRefused
from backends.kernel import cgroup_parse as parse
from backends.kernel.cgroup_file import GuestVanished
from backends.metrics import Sample

SLOW_PASSES = 5
"""Long files (memory.stat) and what rarely changes (limits) are read every so many passes."""

_BUFFER_BYTES = 16_384
_ALWAYS, _ACTIVE, _MOVING, _SLOW = range(4)

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
    "cpu": ((_ACTIVE, "cpu.stat", _CPU_STAT_V1),),
    "memory": (
        (_ALWAYS, "memory.usage_in_bytes", parse.amount("memory_bytes")),
        (_ACTIVE, "memory.oom_control", parse.one_key(b"oom_kill", "oom_kills")),
        (_ACTIVE, "memory.failcnt", parse.amount("memory_max_events")),
        (_SLOW, "memory.stat", parse.one_key(b"total_inactive_file", "memory_cache_bytes")),
        (_SLOW, "memory.limit_in_bytes", parse.v1_limit("memory_limit_bytes")),
        (_SLOW, "memory.memsw.usage_in_bytes", parse.amount("memsw_bytes")),
    ),
    "io": (
        (_MOVING, "blkio.throttle.io_service_bytes_recursive", parse.v1_io("io_read_bytes", "io_write_bytes")),
        (_MOVING, "blkio.throttle.io_serviced_recursive", parse.v1_io("io_read_ops", "io_write_ops")),
    ),
    "pids": ((_ACTIVE, "pids.current", parse.amount("pids")),),
}
_V2_FILES: dict[str, tuple[_File, ...]] = {
    "cpu": ((_ALWAYS, "cpu.stat", _CPU_STAT_V2),),
    "memory": (
        (_ALWAYS, "memory.current", parse.amount("memory_bytes")),
        (_ACTIVE, "memory.events", _EVENTS_V2),
        (_SLOW, "memory.stat", parse.one_key(b"inactive_file", "memory_cache_bytes")),
        (_SLOW, "memory.max", parse.amount("memory_limit_bytes")),
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

    __slots__ = ("fd", "parse", "raw")

    def __init__(self, fd: int, parser: parse.Parse) -> None:
        self.fd, self.parse, self.raw = fd, parser, b""

    def update(self, fields: parse.Fields) -> bool:
        """Read it again; True if the bytes changed. Raises OSError."""
        raw = os.pread(self.fd, _BUFFER_BYTES, 0)
        if raw == self.raw:
            return False
        self.raw = raw
        fields.update(self.parse(raw))
        return True


class CgroupReader:
    """The counters of one group. Owns its file descriptors; close() it."""

    __slots__ = ("_active", "_always", "_fields", "_moving", "_moving_now", "_pass", "_slow", "_where")

    def __init__(self, where: str, files: Iterable[tuple[int, str, parse.Parse]]) -> None:
        self._where = where
        self._fields: parse.Fields = {}
        self._pass = 0
        self._moving_now = True
        groups: tuple[list[_Source], ...] = ([], [], [], [])
        self._always, self._active, self._moving, self._slow = groups
        try:
            for often, path, parser in files:
                fd = _open(path)
                if fd is not None:
                    groups[often].append(_Source(fd, parser))
        except BaseException:
            self.close()
            raise
        if not any(groups):
            raise GuestVanished(f"cannot read counters of the group {where}: it is gone")

    def read(self, time_s: float, *, net_rx_bytes: int | None = None, net_tx_bytes: int | None = None) -> Sample:
        """Return the counters now; the time and the network's are the caller's. Raises GuestVanished."""
        slow = self._pass % SLOW_PASSES == 0
        self._pass += 1
        active = self._update(self._always) or slow
        if active:
            self._update(self._active)
        if active or self._moving_now:
            self._moving_now = self._update(self._moving)
        if slow:
            self._update(self._slow)
        return self._sample(time_s, net_rx_bytes, net_tx_bytes)

    def _update(self, sources: list[_Source]) -> bool:
        changed = False
        for source in tuple(sources):
            try:
                changed |= source.update(self._fields)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    raise GuestVanished(f"cannot read counters of the group {self._where}: it is gone") from error
                # The file is there but not served (PSI switched off at boot): absent from now on.
                os.close(source.fd)
                sources.remove(source)
        return changed

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
        for sources in (self._always, self._active, self._moving, self._slow):
            while sources:
                with suppress(OSError):
                    os.close(sources.pop().fd)


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
