"""The host's own CPU and memory, for the status line."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostFigures:
    """The host at one moment; None where unknown."""

    name: str
    cpus: int
    cpu_pct: float | None = None
    """Of all CPUs together: 100 is all busy."""

    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None


class HostReader:
    """Reads two small files of /proc, kept open, at most once in `every_s`. Called on core threads."""

    def __init__(self, every_s: float = 0.9) -> None:
        self.figures = HostFigures(os.uname().nodename, os.cpu_count() or 1)
        self._every_s = every_s
        self._read_at_s = float("-inf")
        self._files: dict[str, int] = {}
        self._cpu: tuple[int, int] | None = None

    def read_if_due(self) -> None:
        """Read when the last time is long enough ago; what cannot be read stays unknown."""
        now_s = time.monotonic()
        if now_s - self._read_at_s < self._every_s:
            return
        self._read_at_s = now_s
        cpu_pct = self._cpu_pct()
        used, total = self._memory()
        self.figures = HostFigures(self.figures.name, self.figures.cpus, cpu_pct, used, total)

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _text(self, path: str) -> bytes:
        try:
            if path not in self._files:
                self._files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._files[path], 2048, 0)
        except OSError:
            return b""

    def _cpu_pct(self) -> float | None:
        fields = self._text("/proc/stat").partition(b"\n")[0].split()[1:9]
        if len(fields) < 8:
            return None
        ticks = [int(item) for item in fields]
        total, idle = sum(ticks), ticks[3] + ticks[4]
        before, self._cpu = self._cpu, (total, idle)
        if before is None or total <= before[0]:
            return None
        return max(0.0, 100.0 * (1 - (idle - before[1]) / (total - before[0])))

    def _memory(self) -> tuple[int | None, int | None]:
        sizes: dict[bytes, int] = {}
        for row in self._text("/proc/meminfo").splitlines()[:5]:
            parts = row.split()
            if len(parts) >= 2:
                sizes[parts[0]] = int(parts[1]) * 1024
        total, free = sizes.get(b"MemTotal:"), sizes.get(b"MemAvailable:")
        return (None if total is None or free is None else total - free), total
