"""What a simulated guest wants to do and what its limits let it do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from backends.metrics import Sample
from backends.model import GuestKind, Limits

PERIODS_PER_S = 10.0
"""Enforcement periods of a CPU quota: 100 ms each, as the kernel's default."""

MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Appetite:
    """What a guest would use if nothing held it back, on average, and how it sways."""

    cores: float
    memory_bytes: int
    read_bytes_per_s: float
    write_bytes_per_s: float
    rx_bytes_per_s: float
    tx_bytes_per_s: float
    pids: int
    period_s: float
    phase: float


def appetite(random: Random, kind: GuestKind) -> Appetite:
    """Return a guest's appetite; most guests are nearly idle and a few are busy, as on a real host."""
    is_busy = random.random() < 0.3
    scale = random.uniform(0.5, 1.0) if is_busy else random.uniform(0.0, 0.08)
    memory = random.uniform(24, 400) if kind is GuestKind.CONTAINER else random.uniform(300, 1500)
    return Appetite(
        cores=scale * random.uniform(0.5, 2.0),
        memory_bytes=int(memory * MIB),
        read_bytes_per_s=scale * random.choice((0, 0, 1, 20)) * MIB,
        write_bytes_per_s=scale * random.choice((0, 0.2, 2, 30)) * MIB,
        rx_bytes_per_s=scale * random.choice((0, 0.1, 1, 8)) * MIB,
        tx_bytes_per_s=scale * random.choice((0, 0.1, 2, 12)) * MIB,
        pids=random.randint(1, 60) if kind is GuestKind.CONTAINER else random.randint(3, 9),
        period_s=random.uniform(7, 60),
        phase=random.uniform(0, math.tau),
    )


class Load:
    """The counters of one run of a guest; advance() moves them on in time."""

    __slots__ = (
        "_appetite", "_cpu_ns", "_high_events", "_io_psi_us", "_max_events", "_memory", "_memory_psi_us", "_periods",
        "_pids", "_read", "_read_ops", "_rx", "_throttled_ns", "_throttled_periods", "_time_s", "_tx", "_write",
        "_write_ops", "oom_kills",
    )  # fmt: skip

    def __init__(self, appetite: Appetite, time_s: float) -> None:
        self._appetite, self._time_s = appetite, time_s
        self._cpu_ns = self._throttled_ns = self._periods = self._throttled_periods = 0.0
        self._read = self._write = self._read_ops = self._write_ops = self._rx = self._tx = 0.0
        self._high_events = self._max_events = 0.0
        self._memory_psi_us = self._io_psi_us = 0.0
        self._memory, self._pids = appetite.memory_bytes, appetite.pids
        self.oom_kills = 0

    def advance(self, time_s: float, limits: Limits, *, is_paused: bool, memory_total_bytes: int | None) -> None:
        """Go on to a moment; nothing moves while the guest is paused."""
        elapsed_s, middle_s = time_s - self._time_s, (time_s + self._time_s) / 2
        if elapsed_s <= 0:
            return
        self._time_s = time_s
        if is_paused:
            return
        sway = math.sin(middle_s * math.tau / self._appetite.period_s + self._appetite.phase)
        self._use_cpu(elapsed_s, 1 + 0.6 * sway, limits)
        self._use_memory(elapsed_s, 1 + 0.15 * sway, limits, memory_total_bytes)
        self._move_data(elapsed_s, max(0.0, 1 + 0.9 * sway), limits)
        wanted = max(1, round(self._appetite.pids * (1 + 0.2 * sway)))
        self._pids = wanted if limits.pids is None else min(wanted, limits.pids)

    def _use_cpu(self, elapsed_s: float, sway: float, limits: Limits) -> None:
        wanted = self._appetite.cores * sway
        allowed = math.inf if limits.cpus is None else limits.cpus
        if limits.cpuset is not None:
            allowed = min(allowed, _count(limits.cpuset))
        used = min(wanted, allowed)
        self._cpu_ns += used * elapsed_s * 1e9
        if limits.cpus is not None:
            self._periods += PERIODS_PER_S * elapsed_s
            if wanted > allowed:
                share = min(1.0, (wanted - allowed) / wanted + 0.2)
                self._throttled_periods += PERIODS_PER_S * elapsed_s * share
                self._throttled_ns += (wanted - allowed) * elapsed_s * 1e9

    def _use_memory(self, elapsed_s: float, sway: float, limits: Limits, total_bytes: int | None) -> None:
        wanted = int(self._appetite.memory_bytes * sway)
        most = min(limit for limit in (limits.memory_bytes, total_bytes, wanted) if limit is not None)
        if limits.memory_bytes is not None and wanted > limits.memory_bytes:
            before = int(self._max_events) // 20
            self._max_events += 5 * elapsed_s
            self._memory_psi_us += 0.4e6 * elapsed_s
            self.oom_kills += int(self._max_events) // 20 - before  # one kill in 4 s of want
        if limits.memory_high_bytes is not None and wanted > limits.memory_high_bytes:
            self._high_events += 20 * elapsed_s
            self._memory_psi_us += 0.2e6 * elapsed_s
            most = min(most, limits.memory_high_bytes)
        self._memory = most

    def _move_data(self, elapsed_s: float, sway: float, limits: Limits) -> None:
        wants = self._appetite
        read = _held(wants.read_bytes_per_s * sway, limits.io_read_bytes_per_s, limits.io_read_ops_per_s)
        write = _held(wants.write_bytes_per_s * sway, limits.io_write_bytes_per_s, limits.io_write_ops_per_s)
        self._read += read * elapsed_s
        self._read_ops += read / BLOCK * elapsed_s
        self._write += write * elapsed_s
        self._write_ops += write / BLOCK * elapsed_s
        if read < wants.read_bytes_per_s * sway or write < wants.write_bytes_per_s * sway:
            self._io_psi_us += 0.5e6 * elapsed_s
        self._rx += _held(wants.rx_bytes_per_s * sway, limits.net_rx_bytes_per_s, None) * elapsed_s
        self._tx += _held(wants.tx_bytes_per_s * sway, limits.net_tx_bytes_per_s, None) * elapsed_s

    def sample(self, limits: Limits, kind: GuestKind, memory_total_bytes: int | None) -> Sample:
        """Return the counters as they stand; what a VM's backend could not know is None."""
        is_vm = kind is GuestKind.VM
        limit_bytes = limits.memory_bytes if limits.memory_bytes is not None else memory_total_bytes
        return Sample(
            time_s=self._time_s,
            cpu_usage_ns=int(self._cpu_ns),
            cpu_throttled_ns=int(self._throttled_ns),
            cpu_periods=int(self._periods),
            cpu_throttled_periods=int(self._throttled_periods),
            cpu_delay_ns=int(self._cpu_ns * 0.01) if is_vm else None,
            memory_bytes=self._memory,
            memory_cache_bytes=self._memory // 4,
            memory_limit_bytes=limit_bytes,
            memory_high_events=int(self._high_events),
            memory_max_events=int(self._max_events),
            oom_kills=self.oom_kills,
            swap_bytes=None if is_vm else 0,
            io_read_bytes=int(self._read),
            io_write_bytes=int(self._write),
            io_read_ops=int(self._read_ops),
            io_write_ops=int(self._write_ops),
            net_rx_bytes=int(self._rx),
            net_tx_bytes=int(self._tx),
            pids=self._pids,
            cpu_pressure_us=None if is_vm else int(self._throttled_ns / 1000),
            memory_pressure_us=None if is_vm else int(self._memory_psi_us),
            io_pressure_us=None if is_vm else int(self._io_psi_us),
        )


BLOCK = 16384
"""Bytes of one simulated disk operation."""


def _held(wanted: float, bytes_per_s: int | None, ops_per_s: int | None) -> float:
    held = wanted if bytes_per_s is None else min(wanted, bytes_per_s)
    return held if ops_per_s is None else min(held, ops_per_s * BLOCK)


def _count(cpuset: str) -> int:
    bounds = [part.partition("-") for part in cpuset.split(",")]
    return sum(int(high or low) - int(low) + 1 for low, _, high in bounds)


Clock = Callable[[], float]
