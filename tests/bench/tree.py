"""CPU and memory of a program and all it starts, of named daemons, and of the machine."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import signal
import sys
import time
from pathlib import Path

import psutil

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Tree:
    """CPU and memory of a program and all it starts; a cgroup where we may make one."""

    boosted = False

    def __init__(self, use_cgroup: bool) -> None:
        self.pid = 0
        self.dir: Path | None = None
        if use_cgroup:
            for base in ("/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"):
                d = Path(base) / f"tui-cost-{os.getpid()}-{time.monotonic_ns()}"
                try:
                    d.mkdir()
                except OSError:
                    continue
                if (d / "cpuacct.usage").exists() or (d / "cpu.stat").exists():
                    self.dir = d
                    if Tree.boosted:
                        for name, value in (("cpu.shares", "262144"), ("cpu.weight", "10000")):
                            if (d / name).exists():
                                (d / name).write_text(value)
                    break
                d.rmdir()

    def enter(self) -> None:
        """Called in the child, before exec."""
        if self.dir:
            (self.dir / "cgroup.procs").write_text(str(os.getpid()))

    def pids(self) -> list[int]:
        if self.dir:
            return [int(p) for p in (self.dir / "cgroup.procs").read_text().split()]
        try:
            me = psutil.Process(self.pid)
            return [self.pid, *(c.pid for c in me.children(recursive=True))]
        except psutil.Error:
            return []

    def cpu(self) -> float:
        if self.dir:
            v1 = self.dir / "cpuacct.usage"
            if v1.exists():
                return int(v1.read_text()) / 1e9
            return int((self.dir / "cpu.stat").read_text().split()[1]) / 1e6
        return sum(stat_cpu(p, children=True) for p in self.pids())

    def memory(self) -> tuple[int, int]:
        """RSS and PSS of the tree, bytes."""
        rss = pss = 0
        for pid in self.pids():
            with contextlib.suppress(OSError, IndexError, ValueError):
                rss += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
            with contextlib.suppress(OSError, AttributeError):
                m = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
                pss += int(m[1]) * 1024 if m else 0
        return rss, pss

    def counters(self) -> tuple[int, int]:
        """Write calls and voluntary context switches so far (live processes)."""
        calls = switches = 0
        for pid in self.pids():
            with contextlib.suppress(OSError, AttributeError):
                m = re.search(r"^syscw: (\d+)", Path(f"/proc/{pid}/io").read_text(), re.M)
                calls += int(m[1]) if m else 0
            for task in Path(f"/proc/{pid}/task").glob("*/status"):
                with contextlib.suppress(OSError, AttributeError):
                    m = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", task.read_text(), re.M)
                    switches += int(m[1]) if m else 0
        return calls, switches

    def close(self) -> None:
        if self.dir:
            for _ in range(50):
                for pid in self.pids():
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(OSError):
                    self.dir.rmdir()
                    return
                time.sleep(0.02)


def stat_cpu(pid: int, children: bool = False) -> float:
    try:
        rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(x) for x in rest[11 : 15 if children else 13]) / TICKS


def daemon_cpu(names: list[str]) -> float:
    """CPU seconds so far of all processes whose comm starts with one of names."""
    total = 0.0
    if names:
        for p in Path("/proc").iterdir():
            if p.name.isdigit():
                with contextlib.suppress(OSError):
                    comm = (p / "comm").read_text().strip()
                    if any(comm.startswith(n[:15]) for n in names):
                        total += stat_cpu(int(p.name))
    return total


def machine_cpu() -> tuple[float, float]:
    v = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(v) - v[3] - v[4]) / TICKS, sum(v) / TICKS


def boost() -> None:
    """Join a CPU cgroup with the largest share, removed again at the end (nice alone does not
    help across sessions where the kernel groups tasks by session)."""
    for base, name, value in (
        ("/sys/fs/cgroup/cpu", "cpu.shares", "262144"),
        ("/sys/fs/cgroup/cpu,cpuacct", "cpu.shares", "262144"),
        ("/sys/fs/cgroup", "cpu.weight", "10000"),
    ):
        d, root = Path(base) / f"tui-cost-boost-{os.getpid()}", Path(base) / "cgroup.procs"
        try:
            d.mkdir()
        except OSError:
            continue

        def leave(d: Path = d, root: Path = root) -> None:
            with contextlib.suppress(OSError):
                root.write_text(str(os.getpid()))
                d.rmdir()

        try:
            (d / name).write_text(value)
            (d / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            leave()
            continue
        atexit.register(leave)
        Tree.boosted = True
        return
    print("# --boost: no CPU cgroup could be made", file=sys.stderr)
