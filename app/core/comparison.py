"""The same work on the host, in a container and in a VM, in one run: how much of the host's speed is left.

The places take turns within each round, so that what else the machine does meets all of them; the figure of a place is
the median of its rounds.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from backends.benchmark import BenchGuest
from backends.errors import InnkeeperError, TimedOut, Unsupported

LINE_BITS_PER_S = 10**9
"""What the line to the other host carries: that of a usual network card."""

PROGRAMS = ("sysbench", "dd", "iperf3")
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that is done everywhere, and the figure that comes out of it; more is better."""

    name: str
    title: str
    unit: str
    line: str
    """Shell line; {disk}, {far} and {seconds} are filled in."""

    pattern: str
    """Finds the figure in what it prints."""

    published: float | None = None
    """What has been published of Docker 1.1.2, as a part of the host's."""

    goal: float | None = None
    is_far: bool = False
    """It needs the other host."""

    def figure(self, text: str) -> float:
        """Return what it printed as a number. Raises InnkeeperError."""
        found = re.search(self.pattern, text)
        if found is None:
            last = (text.strip().splitlines() or ["nothing"])[-1]
            raise InnkeeperError(f"{self.name}: cannot read its result: {last}")
        values = [float(group) for group in found.groups()]
        return values[0] if len(values) == 1 else values[0] / values[1]


_MEMORY = "sysbench memory --threads=1 --memory-block-size=1M --memory-total-size=1T --time={seconds} --memory-oper="
_RATE = r"\(([\d.]+) MiB/sec\)"
_COPIED = r"(\d+) bytes .*copied, ([\d.]+) s"
_DIRECT = "dd if={disk} of=/dev/null bs=1M count=512 iflag=direct"

WORKLOADS = (
    Workload("cpu", "CPU", "events/s", "sysbench cpu --threads=1 --cpu-max-prime=10000 --time={seconds} run",
             r"events per second:\s*([\d.]+)", 0.9945, 0.99),
    Workload("memory-write", "memory, write", "MiB/s", f"{_MEMORY}write run", _RATE, 0.9826, 0.99),
    Workload("memory-read", "memory, read", "MiB/s", f"{_MEMORY}read run", _RATE, 1.0025, 0.99),
    Workload("disk-write", "disk, write", "bytes/s",
             "dd if=/dev/zero of={disk} bs=1M count=512 oflag=direct conv=notrunc", _COPIED, 0.9811, 0.99),
    Workload("disk-read", "disk, read", "bytes/s", _DIRECT, _COPIED, None, 0.99),
    Workload("network", "network, 1 Gbit/s", "bits/s", "iperf3 -c {far} -t {seconds} -f k",
             r"([\d.]+) Kbits/sec\s+receiver", 0.9626, 0.96, is_far=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where the work is done, and what came out of each round of each workload."""

    name: str
    """"host", "container", "VM (KVM)"."""

    start_s: float | None = None
    disk_bytes: int | None = None
    memory_bytes: int | None = None
    figures: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def median(self, workload: str) -> float | None:
        """Return the figure of a workload; None if it has none."""
        values = self.figures.get(workload)
        return statistics.median(values) if values else None


class Host:
    """The host itself, as one of the places."""

    title = "host"

    def __init__(self, folder: Path) -> None:
        self.disk_path = str(folder / "disk")

    def run(self, line: str, *, timeout_s: float) -> str:
        """Run a shell line here. Raises InnkeeperError."""
        try:
            done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise TimedOut(f"on the host: {line}: not done after {timeout_s:g} s") from error
        if done.returncode:
            last = (f"{done.stdout}{done.stderr}".strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
            raise InnkeeperError(f"on the host: {line}: {last}")
        return done.stdout + done.stderr


Say = Callable[[str], None]


def check_programs(workloads: Sequence[Workload]) -> None:
    """Raise Unsupported if this host lacks a program that the workloads need."""
    needed = {workload.line.split()[0] for workload in workloads}
    missing = [name for name in PROGRAMS if name in needed and not shutil.which(name)]
    if missing:
        raise Unsupported(f"cannot measure: {' and '.join(missing)} not found", hint=f"apt install {' '.join(missing)}")


def compare(
    guests: Sequence[BenchGuest], folder: Path, workloads: Sequence[Workload], *, rounds: int, seconds: int, say: Say
) -> list[Place]:
    """Measure the host and the guests; a workload that fails somewhere is told in that place's failures."""
    with tempfile.TemporaryDirectory(prefix="innkeeper-bench-", dir=folder) as own, _far(workloads) as far:
        runners: list[tuple[Place, Host | BenchGuest]] = [(Place("host"), Host(Path(own)))]
        runners += [(Place(g.title, g.start_s, g.disk_bytes, g.memory_bytes), g) for g in guests]
        for place, runner in runners:  # the file's blocks are there before anything is timed
            _try(place, runner, WORKLOADS[3], {"disk": runner.disk_path, "far": "", "seconds": "1"}, keep=False)
        for number in range(1, rounds + 1):
            for workload in workloads:
                say(f"round {number} of {rounds}: {workload.title}")
                for place, runner in runners:
                    values = {"disk": runner.disk_path, "far": far.get(workload.name, ""), "seconds": str(seconds)}
                    _try(place, runner, workload, values)
    return [place for place, _ in runners]


def _try(
    place: Place, runner: Host | BenchGuest, workload: Workload, values: Mapping[str, str], *, keep: bool = True
) -> None:
    program, _, rest = workload.line.format(**values).partition(" ")
    try:
        # By its path: busybox's shell, which the VM has, prefers its own of the same name.
        figure = workload.figure(runner.run(f"{shutil.which(program)} {rest}", timeout_s=_PATIENCE_S))
    except InnkeeperError as error:
        place.failures[workload.name] = error.message
        return
    if keep:
        place.figures.setdefault(workload.name, []).append(figure)


@contextmanager
def _far(workloads: Sequence[Workload]) -> Iterator[dict[str, str]]:
    """Have the other host up while it is needed; yields its address for each workload that needs it."""
    names = [workload.name for workload in workloads if workload.is_far]
    if not names:
        yield {}
        return
    from backends.kernel.far_host import FarHost

    with FarHost(("iperf3", "-s"), bits_per_s=LINE_BITS_PER_S) as far:
        yield dict.fromkeys(names, far.address)
