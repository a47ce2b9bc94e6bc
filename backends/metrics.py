"""Raw counters, the rates derived from them, and the history of those rates.

A `Sample` keeps what the source gave, None for what is absent. `rates()` is pure. Each field of `Rates`
is declared once in `FIELDS`, which table, charts, CLI, CSV and help all read.

Conventions: CPU 100 % is one core. Memory as charged, page cache included; `memory_used_bytes` leaves
the cache out. Network: sum over all interfaces, seen from the guest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters of one guest at one moment. Everything but the time may be None: not known here."""

    time_s: float
    """Monotonic (time.monotonic())."""

    cpu_usage_ns: int | None = None
    """CPU time used since the guest's start (cpu.stat usage_usec, cpuacct.usage, cpu.time)."""

    cpu_throttled_ns: int | None = None
    """Time its tasks were held back by a quota (cpu.stat throttled_usec / throttled_time)."""

    cpu_periods: int | None = None
    cpu_throttled_periods: int | None = None
    """Enforcement periods in all, and those in which the quota was used up (nr_periods, nr_throttled)."""

    cpu_delay_ns: int | None = None
    """Time vCPUs were ready but waited for a host CPU (vcpu.N.delay): steal."""

    memory_bytes: int | None = None
    """Charged now, page cache included (memory.current)."""

    memory_cache_bytes: int | None = None
    """Reclaimable page cache within it (memory.stat inactive_file / total_inactive_file)."""

    memory_limit_bytes: int | None = None
    memory_high_events: int | None = None
    memory_max_events: int | None = None
    oom_kills: int | None = None
    swap_bytes: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    io_read_ops: int | None = None
    io_write_ops: int | None = None
    net_rx_bytes: int | None = None
    """Received by the guest (what the host's end of its link sent)."""

    net_tx_bytes: int | None = None
    pids: int | None = None
    cpu_pressure_us: int | None = None
    memory_pressure_us: int | None = None
    io_pressure_us: int | None = None
    """PSI "some" totals in µs: time in which at least one task waited (cpu.pressure …)."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What a guest did between two samples; None where unknown."""

    cpu_pct: float | None = None
    cpu_throttled_pct: float | None = None
    cpu_delay_pct: float | None = None
    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_limit_bytes: int | None = None
    memory_pct: float | None = None
    swap_bytes: int | None = None
    oom_kills: int | None = None
    io_read_bytes_per_s: float | None = None
    io_write_bytes_per_s: float | None = None
    io_read_ops_per_s: float | None = None
    io_write_ops_per_s: float | None = None
    net_rx_bytes_per_s: float | None = None
    net_tx_bytes_per_s: float | None = None
    pids: int | None = None
    cpu_pressure_pct: float | None = None
    memory_pressure_pct: float | None = None
    io_pressure_pct: float | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """How one field of Rates is told to people."""

    name: str
    title: str
    """Column heading, at most 8 cells."""

    unit: str
    """"%", "bytes", "bytes/s", "ops/s", "count"."""

    meaning: str
    """One sentence for help and teaching."""

    source: str
    """Where the kernel or libvirt keeps it."""


FIELDS: dict[str, Field] = {
    f.name: f
    for f in (
        Field("cpu_pct", "CPU%", "%", "CPU time used; 100 is one core.", "cpu.stat usage_usec; cpuacct.usage"),
        Field(
            "cpu_throttled_pct",
            "THROTL%",
            "%",
            "Share of enforcement periods in which the CPU quota held the guest back.",
            "cpu.stat nr_throttled / nr_periods",
        ),
        Field(
            "cpu_delay_pct",
            "STEAL%",
            "%",
            "Time its virtual CPUs were ready but waited for a host CPU; 100 is one vCPU.",
            "libvirt vcpu.N.delay",
        ),
        Field("memory_bytes", "MEM", "bytes", "Memory charged to the guest, page cache included.", "memory.current"),
        Field(
            "memory_used_bytes",
            "USED",
            "bytes",
            "Memory without reclaimable page cache.",
            "memory.current - inactive_file",
        ),
        Field("memory_limit_bytes", "MEMMAX", "bytes", "Hard memory limit.", "memory.max"),
        Field("memory_pct", "MEM%", "%", "Memory as a share of its limit.", "memory.current / memory.max"),
        Field("swap_bytes", "SWAP", "bytes", "Swap used.", "memory.swap.current"),
        Field("oom_kills", "OOM", "count", "Processes killed because memory ran out.", "memory.events oom_kill"),
        Field("io_read_bytes_per_s", "READ/s", "bytes/s", "Bytes read from block devices.", "io.stat rbytes"),
        Field("io_write_bytes_per_s", "WRITE/s", "bytes/s", "Bytes written to block devices.", "io.stat wbytes"),
        Field("io_read_ops_per_s", "RIOPS", "ops/s", "Read operations on block devices.", "io.stat rios"),
        Field("io_write_ops_per_s", "WIOPS", "ops/s", "Write operations on block devices.", "io.stat wios"),
        Field(
            "net_rx_bytes_per_s",
            "RX/s",
            "bytes/s",
            "Bytes the guest received, all interfaces.",
            "the host's end of its link",
        ),
        Field(
            "net_tx_bytes_per_s",
            "TX/s",
            "bytes/s",
            "Bytes the guest sent, all interfaces.",
            "the host's end of its link",
        ),
        Field("pids", "PIDS", "count", "Tasks.", "pids.current"),
        Field("cpu_pressure_pct", "PSI-CPU", "%", "Time in which some task waited for a CPU.", "cpu.pressure some"),
        Field(
            "memory_pressure_pct", "PSI-MEM", "%", "Time in which some task waited for memory.", "memory.pressure some"
        ),
        Field("io_pressure_pct", "PSI-IO", "%", "Time in which some task waited for I/O.", "io.pressure some"),
    )
}


def rates(before: Sample | None, after: Sample) -> Rates:
    """Derive rates from two samples of one guest; without a first one only levels are known.

    A counter that went backwards means the guest was restarted: its rate is None this time.
    """
    elapsed_s = after.time_s - before.time_s if before is not None else 0.0
    per_s = _PerSecond(before, after, elapsed_s)
    used = after.memory_bytes
    if used is not None and after.memory_cache_bytes is not None:
        used = max(0, used - after.memory_cache_bytes)
    return Rates(
        cpu_pct=per_s("cpu_usage_ns", 1e-7),
        cpu_throttled_pct=_throttled_pct(before, after),
        cpu_delay_pct=per_s("cpu_delay_ns", 1e-7),
        memory_bytes=after.memory_bytes,
        memory_used_bytes=used,
        memory_limit_bytes=after.memory_limit_bytes,
        memory_pct=_share_pct(after.memory_bytes, after.memory_limit_bytes),
        swap_bytes=after.swap_bytes,
        oom_kills=after.oom_kills,
        io_read_bytes_per_s=per_s("io_read_bytes"),
        io_write_bytes_per_s=per_s("io_write_bytes"),
        io_read_ops_per_s=per_s("io_read_ops"),
        io_write_ops_per_s=per_s("io_write_ops"),
        net_rx_bytes_per_s=per_s("net_rx_bytes"),
        net_tx_bytes_per_s=per_s("net_tx_bytes"),
        pids=after.pids,
        cpu_pressure_pct=per_s("cpu_pressure_us", 1e-4),
        memory_pressure_pct=per_s("memory_pressure_us", 1e-4),
        io_pressure_pct=per_s("io_pressure_us", 1e-4),
    )


class _PerSecond:
    __slots__ = ("_after", "_before", "_elapsed_s")

    def __init__(self, before: Sample | None, after: Sample, elapsed_s: float) -> None:
        self._before, self._after, self._elapsed_s = before, after, elapsed_s

    def __call__(self, counter: str, scale: float = 1.0) -> float | None:
        if self._before is None or self._elapsed_s <= 0:
            return None
        old, new = getattr(self._before, counter), getattr(self._after, counter)
        if old is None or new is None or new < old:
            return None
        return float((new - old) / self._elapsed_s * scale)


def _throttled_pct(before: Sample | None, after: Sample) -> float | None:
    if before is None or None in (
        before.cpu_periods,
        after.cpu_periods,
        before.cpu_throttled_periods,
        after.cpu_throttled_periods,
    ):
        return None
    periods = (after.cpu_periods or 0) - (before.cpu_periods or 0)
    throttled = (after.cpu_throttled_periods or 0) - (before.cpu_throttled_periods or 0)
    if periods < 0 or throttled < 0:
        return None
    return min(100.0, 100.0 * throttled / periods) if periods else 0.0


def _share_pct(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else 100.0 * part / whole


class History:
    """The last rates of one guest, oldest first; a ring of fixed length."""

    __slots__ = ("_points",)

    def __init__(self, length: int = 600) -> None:
        self._points: deque[tuple[float, Rates]] = deque(maxlen=length)

    def append(self, time_s: float, point: Rates) -> None:
        """Add the newest point."""
        self._points.append((time_s, point))

    def extend(self, points: Iterable[tuple[float, Rates]]) -> None:
        """Add points, oldest first."""
        self._points.extend(points)

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[tuple[float, Rates]]:
        return iter(tuple(self._points))

    @property
    def last(self) -> Rates | None:
        """The newest rates, or None before the first."""
        return self._points[-1][1] if self._points else None

    def series(self, name: str, count: int | None = None) -> list[float | None]:
        """The newest `count` values of one field of Rates, oldest first."""
        points = tuple(self._points)
        chosen = points if count is None else points[-count:]
        return [getattr(point, name) for _, point in chosen]
