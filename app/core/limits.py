"""Every limit a user can set, declared once: options of the command line, the limits panel and help come from here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from app.core import units
from app.core.units import GIB, KIB, MIB
from backends.errors import UsageError
from backends.model import DeviceIo, Limits

LIFT = "none"
"""The word that lifts a limit."""

Value = Any
"""int, float or str, as the field of Limits has it."""


@dataclass(frozen=True, slots=True)
class LimitField:
    """How one field of Limits is told to people and read from them."""

    name: str
    """Field of Limits."""

    option: str
    """"--cpus"."""

    title: str
    """Row of the limits panel, at most 16 cells."""

    unit: str
    """"cores", "weight", "cpus", "bytes", "bytes/s", "ops/s", "count", "seconds", "%"."""

    meaning: str
    """One sentence."""

    source: str
    """Where the kernel or libvirt keeps it."""

    minimum: Value
    """Smallest value that is taken; None where there is no order (cpuset)."""

    first: Value
    """Where stepping down from "no limit" begins; None: from all there is on this host."""

    maximum: Value = None
    device_field: str = ""
    """Field of DeviceIo that holds it for one device; empty if it has no devices."""

    def parse(self, text: str) -> Value | None:
        """Return the value, or None for "none". Raises UsageError with one line."""
        if text.strip().lower() == LIFT:
            return None
        try:
            value = _PARSERS[self.unit](text)
        except UsageError as error:
            raise UsageError(f"{self.option}: {error.message}; or {LIFT!r}") from None
        if self.minimum is not None and value < self.minimum:
            raise UsageError(f"{self.option}: {text} is too small: at least {self.format(self.minimum)}")
        if self.maximum is not None and value > self.maximum:
            raise UsageError(f"{self.option}: {text} is too large: at most {self.format(self.maximum)}")
        return value

    def format(self, value: Value | None) -> str:
        """Return a text that parse() takes back."""
        return LIFT if value is None else _FORMATS[self.unit](value)

    def step_up(self, value: Value | None) -> Value | None:
        """Return the next larger handy value; no limit stays no limit."""
        if value is None:
            return None
        if self.unit == "cpus":
            return _more_cpus(value)
        bigger = _next_up(self.unit, value)
        return bigger if self.maximum is None else min(bigger, self.maximum)

    def step_down(self, value: Value | None) -> Value:
        """Return the next smaller handy value, not below the minimum; from no limit the first one."""
        if self.unit == "cpus":
            return _fewer_cpus(value)
        if value is None:
            return self.first if self.first is not None else float(os.cpu_count() or 1)
        return max(_next_down(self.unit, value), self.minimum)


def _parse_cores(text: str) -> float:
    try:
        cores = float(text)
    except ValueError:
        cores = -1.0
    if not 0 <= cores < 1e6:
        raise UsageError(f"{text!r} is no number of cores: expected a number such as 0.5 or 2")
    return cores


def _format_number(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(value)


_PARSERS: dict[str, Callable[[str], Value]] = {
    "seconds": lambda text: units.parse_duration(text, what="delay"),
    "%": units.parse_percent,
    "cores": _parse_cores,
    "weight": lambda text: units.parse_count(text, what="weight"),
    "cpus": units.parse_cpu_list,
    "bytes": units.parse_size,
    "bytes/s": units.parse_rate,
    "ops/s": lambda text: units.parse_count(text.removesuffix("/s"), what="number of operations per second"),
    "count": units.parse_count,
}

_FORMATS: dict[str, Callable[[Value], str]] = {
    "seconds": lambda value: units.format_delay(value),
    "%": lambda value: f"{value:g}%",
    "cores": _format_number,
    "weight": str,
    "cpus": str,
    "bytes": units.format_size,
    "bytes/s": units.format_rate,
    "ops/s": lambda value: f"{value}/s",
    "count": str,
}

_CORES = (0.01, 0.02, 0.05, *(n / 10 for n in range(1, 10)), *(1 + n / 4 for n in range(12)), *range(4, 1025))


def _handy(unit: str, around: float) -> list[float]:
    """Return handy values of the unit well below to well above the given one, in order."""
    if unit == "cores":
        return [float(cores) for cores in _CORES]
    if unit in ("bytes", "bytes/s"):
        return [size * 2**power for power in range(50) for size in (KIB, KIB * 3 // 2)]
    if unit in ("seconds", "%"):
        return [digit * 10**power / 1000 for power in range(6) for digit in (1, 2, 5)]
    top = len(str(int(around))) + 1
    return [digit * 10**power for power in range(top) for digit in (1, 2, 5)]


def _next_up(unit: str, value: float) -> Value:
    return next((handy for handy in sorted(_handy(unit, value)) if handy > value), value)


def _next_down(unit: str, value: float) -> Value:
    return next((handy for handy in sorted(_handy(unit, value), reverse=True) if handy < value), 0)


def _more_cpus(value: str) -> str:
    present = units.cpu_numbers(value)
    missing = sorted(frozenset(range(os.cpu_count() or 1)) - present)
    return units.format_cpu_list(present | frozenset(missing[:1]))


def _fewer_cpus(value: str | None) -> str:
    present = units.cpu_numbers(value) if value else frozenset(range(os.cpu_count() or 1))
    return units.format_cpu_list(frozenset(sorted(present)[: max(1, len(present) - 1)]))


LIMIT_FIELDS: dict[str, LimitField] = {
    field.name: field
    for field in (
        LimitField(
            "cpus",
            "--cpus",
            "CPU",
            "cores",
            "CPU time it may use each second; 0.5 is half of one core.",
            "cpu.max; cpu.cfs_quota_us; vcpu_quota",
            0.01,
            None,
        ),
        LimitField(
            "cpu_weight",
            "--cpu-weight",
            "CPU weight",
            "weight",
            "Its share when CPUs are contended, 1 to 10000; 100 is the default.",
            "cpu.weight; cpu.shares",
            1,
            50,
            10000,
        ),
        LimitField(
            "cpuset", "--cpuset", "CPU set", "cpus", "The CPUs it may run on.", "cpuset.cpus; vcpupin", None, None
        ),
        LimitField(
            "memory_bytes",
            "--memory",
            "Memory",
            "bytes",
            "Hard limit; above it the kernel kills one of its processes. A VM's balloon.",
            "memory.max; memory.limit_in_bytes",
            MIB,
            GIB,
        ),
        LimitField(
            "memory_high_bytes",
            "--memory-high",
            "Memory high",
            "bytes",
            "Above it the guest is slowed and its memory reclaimed.",
            "memory.high; soft_limit_in_bytes",
            MIB,
            GIB,
        ),
        LimitField(
            "swap_bytes",
            "--swap",
            "Swap",
            "bytes",
            "Swap it may use on top of its memory.",
            "memory.swap.max; memory.memsw.limit_in_bytes",
            0,
            GIB,
        ),
        LimitField("pids", "--pids", "Tasks", "count", "Processes and threads it may have.", "pids.max", 1, 1000),
        LimitField(
            "io_read_bytes_per_s",
            "--io-read",
            "Disk read",
            "bytes/s",
            "Bytes read from each device.",
            "io.max rbps; blkio.throttle.read_bps_device",
            KIB,
            96 * MIB,
            device_field="read_bytes_per_s",
        ),
        LimitField(
            "io_write_bytes_per_s",
            "--io-write",
            "Disk write",
            "bytes/s",
            "Bytes written to each device.",
            "io.max wbps; blkio.throttle.write_bps_device",
            KIB,
            96 * MIB,
            device_field="write_bytes_per_s",
        ),
        LimitField(
            "io_read_ops_per_s",
            "--io-read-ops",
            "Disk read ops",
            "ops/s",
            "Read operations on each device.",
            "io.max riops; blkio.throttle.read_iops_device",
            1,
            1000,
            device_field="read_ops_per_s",
        ),
        LimitField(
            "io_write_ops_per_s",
            "--io-write-ops",
            "Disk write ops",
            "ops/s",
            "Write operations on each device.",
            "io.max wiops; blkio.throttle.write_iops_device",
            1,
            1000,
            device_field="write_ops_per_s",
        ),
        LimitField(
            "net_rx_bytes_per_s",
            "--net-rx",
            "Net receive",
            "bytes/s",
            "Bytes per second it receives on each interface.",
            "tc on the host's end of its link; bandwidth inbound",
            KIB,
            96 * MIB,
        ),
        LimitField(
            "net_tx_bytes_per_s",
            "--net-tx",
            "Net send",
            "bytes/s",
            "Bytes per second it sends on each interface.",
            "tc on its own end of its link; bandwidth outbound",
            KIB,
            96 * MIB,
        ),
        LimitField(
            "net_delay_s",
            "--net-delay",
            "Net delay",
            "seconds",
            "How much longer a round trip takes: what it receives comes later.",
            "netem on the host's end of its link",
            0.0,
            0.01,
            60.0,
        ),
        LimitField(
            "net_jitter_s",
            "--net-jitter",
            "Net jitter",
            "seconds",
            "How much that delay differs, to either side.",
            "netem on the host's end of its link",
            0.0,
            0.001,
            60.0,
        ),
        LimitField(
            "net_loss_pct",
            "--net-loss",
            "Net loss",
            "%",
            "Share of the packets sent to it that never arrive.",
            "netem, or a BPF program, on the host's end of its link",
            0.0,
            1.0,
            100.0,
        ),
    )
}


def parse_changes(given: Iterable[tuple[str, str]], current: Limits | None = None) -> dict[str, Value]:
    """Turn (field name, text) pairs into changes for a guest whose limits are `current`.

    "DEVICE:VALUE" for the disk limits changes that device alone: /dev/vda:10M. Raises UsageError.
    """
    changes: dict[str, Value] = {}
    devices = {entry.device: entry for entry in (current.io_devices if current else ())}
    for name, text in given:
        field = LIMIT_FIELDS[name]
        device, colon, rest = text.rpartition(":")
        if not (colon and field.device_field):
            changes[name] = field.parse(text)
            continue
        if not device:
            raise UsageError(f"{field.option}: {text!r} names no device: expected DEVICE:VALUE, such as /dev/vda:10M")
        change: dict[str, Any] = {field.device_field: field.parse(rest)}
        devices[device] = replace(devices.get(device, DeviceIo(device)), **change)
        changes["io_devices"] = ()
    if "io_devices" in changes:
        changes["io_devices"] = tuple(entry for entry in devices.values() if entry != DeviceIo(entry.device))
    return changes


def describe(limits: Limits) -> list[tuple[str, str]]:
    """Return (title, text) of each limit that is set, devices included."""
    lines = [
        (field.title, field.format(value))
        for field in LIMIT_FIELDS.values()
        if (value := getattr(limits, field.name)) is not None
    ]
    for entry in limits.io_devices:
        for field in LIMIT_FIELDS.values():
            value = getattr(entry, field.device_field) if field.device_field else None
            if value is not None:
                lines.append((f"{field.title} {entry.device}", field.format(value)))
    return lines
