"""The counters of local guests, from QEMU's cgroup and the host's links: no call to libvirt at all.

libvirt's bulk call asks each QEMU in turn, about 2 ms of libvirtd's CPU and 8 ms a guest. The kernel has the
same figures for nothing: the guest's memory, CPU time and disk traffic are QEMU's, and its packets pass a tap.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from backends.kernel.cgroup import CgroupHost, CgroupReader, GuestVanished
from backends.kernel.procfs import is_same_process, start_ticks
from backends.libvirt.domain_xml import DomainInfo
from backends.libvirt.qemu_process import group_of_qemu
from backends.metrics import Sample

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class VmReader:
    """Counters of one live guest. Owns its file descriptors; close() it."""

    def __init__(self, host: CgroupHost | None, pid: int) -> None:
        self.pid = pid
        self._start_ticks = start_ticks(pid)
        group = group_of_qemu(host, pid) if host is not None else None
        self.group = group
        self._cgroup: CgroupReader | None = group.reader() if group is not None else None
        cpu = group.directory("cpu") if group is not None else None
        self._vcpus = _open_vcpus(cpu) if cpu else []
        self._delays = _open_delays(pid)
        self._proc = _ProcFiles(pid)

    def is_current(self) -> bool:
        """True while this QEMU lives."""
        return self._start_ticks is not None and is_same_process(self.pid, self._start_ticks)

    def read(self, now: float, taps: Mapping[str, tuple[int, int]], info: DomainInfo | None) -> Sample:
        """Return the counters; taps map a link to the (received, sent) bytes of its host side.

        Raises GuestVanished when QEMU has gone.
        """
        rx, tx = _network(taps, info)
        if self._cgroup is not None:
            sample = self._cgroup.read(now, net_rx_bytes=rx, net_tx_bytes=tx)
        else:
            sample = Sample(now, net_rx_bytes=rx, net_tx_bytes=tx)
        sample = self._proc.complete(sample)
        periods, throttled, throttled_ns = self._throttling(sample)
        return replace(
            sample,
            cpu_periods=periods,
            cpu_throttled_periods=throttled,
            cpu_throttled_ns=throttled_ns,
            cpu_delay_ns=self._delay_ns(),
            memory_limit_bytes=info.memory_bytes if info is not None else None,
        )

    def _throttling(self, sample: Sample) -> tuple[int | None, int | None, int | None]:
        """Sum over the guest's group (global_quota) and its vCPUs' groups, where libvirt sets vcpu_quota."""
        if sample.cpu_periods is None and not self._vcpus:
            return None, None, None
        total = [sample.cpu_periods or 0, sample.cpu_throttled_periods or 0, sample.cpu_throttled_ns or 0]
        for fd in self._vcpus:
            try:
                found = _cpu_stat(os.pread(fd, 4096, 0))
            except OSError as error:
                raise GuestVanished(f"cannot read the vCPU groups of process {self.pid}: it is gone") from error
            total = [a + b for a, b in zip(total, found, strict=True)]
        return total[0], total[1], total[2]

    def _delay_ns(self) -> int | None:
        """Sum the time that vCPU threads were ready and waited for a CPU (schedstat, second field)."""
        total = 0
        for fd in self._delays:
            try:
                total += int(os.pread(fd, 128, 0).split()[1])
            except (OSError, IndexError, ValueError):
                return None  # a vCPU was taken out, or the kernel keeps no such figures
        return total if self._delays else None

    def close(self) -> None:
        """Close the files; may be called again."""
        if self._cgroup is not None:
            self._cgroup.close()
        self._proc.close()
        for files in (self._vcpus, self._delays):
            while files:
                with suppress(OSError):
                    os.close(files.pop())


class _ProcFiles:
    """What /proc/PID tells where QEMU has no cgroup of its own (a user's session, some v1 controllers)."""

    def __init__(self, pid: int) -> None:
        try:
            self._stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise GuestVanished(f"cannot read counters of process {pid}: it is gone") from error
        self._io: int | None = None
        with suppress(OSError):
            self._io = os.open(f"/proc/{pid}/io", os.O_RDONLY | os.O_CLOEXEC)

    def complete(self, sample: Sample) -> Sample:
        """Fill in what the sample lacks, and the disk traffic that its cgroup does not see.

        cgroup v1 charges what goes through the page cache to nobody, so a guest with cache='writeback' seems
        to write nothing; /proc/PID/io counts those pages too. The larger of two counters that only grow grows.
        """
        try:
            stat = os.pread(self._stat, 1024, 0).rpartition(b")")[2].split() if _lacks_stat(sample) else None
            read_bytes, write_bytes = self._read_io()
        except OSError as error:
            raise GuestVanished("cannot read counters of a QEMU: it is gone") from error
        sample = replace(
            sample,
            io_read_bytes=_larger(sample.io_read_bytes, read_bytes),
            io_write_bytes=_larger(sample.io_write_bytes, write_bytes),
        )
        if stat is None:
            return sample
        if not stat or stat[0] in (b"Z", b"X"):
            raise GuestVanished("cannot read counters of a QEMU: it is gone")
        return replace(
            sample,
            cpu_usage_ns=_or(sample.cpu_usage_ns, (int(stat[11]) + int(stat[12])) * _TICK_NS),
            memory_bytes=_or(sample.memory_bytes, int(stat[21]) * _PAGE),
            pids=_or(sample.pids, int(stat[17])),
        )

    def _read_io(self) -> tuple[int | None, int | None]:
        if self._io is None:
            return None, None
        lines = dict(line.split(b": ", 1) for line in os.pread(self._io, 1024, 0).splitlines())
        return int(lines[b"read_bytes"]), int(lines[b"write_bytes"])

    def close(self) -> None:
        for fd in (self._stat, self._io):
            if fd is not None:
                with suppress(OSError):
                    os.close(fd)
        self._io = None


def _lacks_stat(sample: Sample) -> bool:
    return sample.cpu_usage_ns is None or sample.memory_bytes is None or sample.pids is None


def _larger(first: int | None, second: int | None) -> int | None:
    return second if first is None else first if second is None else max(first, second)


def _or(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


def _open_vcpus(folder: str) -> list[int]:
    """Open cpu.stat of each vCPU's group: below the guest's group in v1, below libvirt/ in it in v2."""
    found = []
    for path in sorted([*Path(folder).glob("vcpu*/cpu.stat"), *Path(folder).glob("libvirt/vcpu*/cpu.stat")]):
        with suppress(OSError):
            found.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    return found


def _open_delays(pid: int) -> list[int]:
    """Open schedstat of each vCPU thread; QEMU names them "CPU 0/KVM", "CPU 1/TCG" …"""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            if (task / "comm").read_text().startswith("CPU "):
                found.append(os.open(task / "schedstat", os.O_RDONLY | os.O_CLOEXEC))
    return found


def _cpu_stat(raw: bytes) -> list[int]:
    values = dict(line.split(b" ", 1) for line in raw.splitlines() if b" " in line)
    time_ns = int(values.get(b"throttled_time", 0)) or int(values.get(b"throttled_usec", 0)) * 1000
    return [int(values.get(b"nr_periods", 0)), int(values.get(b"nr_throttled", 0)), time_ns]


def _network(taps: Mapping[str, tuple[int, int]], info: DomainInfo | None) -> tuple[int | None, int | None]:
    """Return what the guest received and sent: its tap sends what the guest receives."""
    if info is None:
        return None, None
    found = [taps[nic.target] for nic in info.nics if nic.target in taps]
    if not found:
        return None, None
    return sum(sent for _, sent in found), sum(received for received, _ in found)
