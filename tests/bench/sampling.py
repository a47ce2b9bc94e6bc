"""What one pass over all guests costs: CgroupReader against psutil, in one run.

    python tests/bench/sampling.py [--guests 40] [--passes 30] [--busy 0]

Makes groups with one sleeping process each (and some that work a little between passes), reads all of them
with CgroupReader, with the counters a table shows read plainly (open, read, close), and with psutil's oneshot
of the same processes, the three in turn, so that all meet the same load. Prints µs of this process's CPU time
a guest and pass, the mean of the passes, and the ratios. Root; removes its groups and processes.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backends.kernel.cgroup import Cgroup, CgroupReader, detect, raise_file_limit

_WORKER = "import time\nwhile True:\n    sum(range(2000)); time.sleep(0.02)"


class Guests:
    """Groups with a process each."""

    def __init__(self, count: int, busy: int) -> None:
        self._above = detect().group(f"innkeeper-bench-{secrets.token_hex(6)}")
        self.groups: list[Cgroup] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.readers: list[CgroupReader] = []
        self._count, self._busy = count, busy

    def __enter__(self) -> Guests:
        try:
            for number in range(self._count):
                self._add(number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _add(self, number: int) -> None:
        group = self._above.host.group(f"{self._above.path}/{number}")
        for step in group.create_steps():
            step.run()
        line = [sys.executable, "-I", "-S", "-c", _WORKER] if number < self._busy else ["sleep", "3600"]
        process = subprocess.Popen(line)
        self.processes.append(process)
        group.enter(process.pid)
        self.groups.append(group)
        self.readers.append(group.reader())

    def __exit__(self, *_: object) -> None:
        for reader in self.readers:
            reader.close()
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if self._above.exists():
            self._above.kill()
        self._above.remove()


def measure(ways: dict[str, Callable[[], None]], passes: int, guests: int) -> dict[str, float]:
    """Return µs of CPU a guest and pass of each way; the ways take turns."""
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(passes):
        for name, run in ways.items():
            began = time.process_time_ns()
            run()
            costs[name].append((time.process_time_ns() - began) / 1000 / guests)
        time.sleep(0.05)  # lets the working guests work, so that there is something to read
    return {name: statistics.fmean(found) for name, found in costs.items()}


def _read_plainly(folders: list[list[str]]) -> None:
    for paths in folders:
        for path in paths:
            fd = os.open(path, os.O_RDONLY)
            os.read(fd, 4096)
            os.close(fd)


def _plain_files(group: Cgroup) -> list[str]:
    names = {
        "cpuacct": ("cpuacct.usage",),
        "cpu": ("cpu.stat",),
        "memory": ("memory.current", "memory.usage_in_bytes"),
        "pids": ("pids.current",),
        "io": ("io.stat", "blkio.throttle.io_service_bytes_recursive"),
    }
    paths = [f"{group.directory(controller)}/{name}" for controller, all_ in names.items() for name in all_]
    return [path for path in paths if os.path.exists(path)]


def main() -> int:
    """The command line."""
    import psutil

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--guests", type=int, default=40)
    parser.add_argument("--passes", type=int, default=30)
    parser.add_argument("--busy", type=int, default=0, help="how many of the guests work a little")
    chosen = parser.parse_args()
    raise_file_limit()
    with Guests(chosen.guests, chosen.busy) as guests:
        processes = [psutil.Process(process.pid) for process in guests.processes]
        folders = [_plain_files(group) for group in guests.groups]

        def ours() -> None:
            now = time.monotonic()
            for reader in guests.readers:
                reader.read(now)

        def with_psutil() -> None:
            for process in processes:
                with process.oneshot():
                    process.cpu_times(), process.memory_info(), process.num_threads(), process.io_counters()

        ways = {"CgroupReader": ours, "open, read, close": lambda: _read_plainly(folders), "psutil": with_psutil}
        costs = measure(ways, chosen.passes, chosen.guests)
    print(f"{chosen.guests} guests, {chosen.busy} working, {chosen.passes} passes, cgroup {detect().mode}")
    for name, cost_us in costs.items():
        share = cost_us * chosen.guests / 10_000
        ratio = cost_us / costs["psutil"]
        print(f"{name:18} {cost_us:7.1f} µs a guest   {ratio:.3f} x psutil   {share:.2f} % of a core at 1 Hz")
    return 0


if __name__ == "__main__":
    sys.exit(main())
