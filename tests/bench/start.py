"""What a start costs, side by side with crun, runc, podman and docker, and what many containers cost.

    python tests/bench/start.py                             # all, some minutes; as root
    python tests/bench/start.py --rounds 30 --only request,oneshot
    python tests/bench/start.py --only many,memory,lives --lives 1000

    request   from the request to execve of the program, through the warm spawner, against `crun run`
    oneshot   `inn run --rm IMAGE true`, whole process, against `runc run`, `podman run`, `docker run`
    port      the same with bridge, NAT and one published port
    many      100 starts at once
    memory    PSS of each of 50 supervisors
    lives     starts and removals in a row, and what is left of them

The runtimes take turns, each once a round, after a pause (--pause): on cgroup v1 the first attach after some quiet
waits for an RCU grace period, which is spared those who are started without any pause. With --pause 0 every
runtime has all its rounds in a row. All use one busybox-static root file system; crun and runc get the config.json
that Innkeeper made, seccomp and all, on an overlay mounted beforehand. State is kept in a folder below /tmp.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import start_many
from tests.bench.start_inn import Inn
from tests.bench.start_peers import Cost, engine_peers, oci_peers, peers_group
from tests.bench.tree import boost

PARTS = ("request", "oneshot", "port", "many", "memory", "lives")


def say(text: str = "") -> None:
    """Print a line at once."""
    print(text, flush=True)


def in_turn(ways: dict[str, Callable[[], Cost]], rounds: int, pause_s: float) -> dict[str, list[Cost]]:
    """Return the costs of each way; they take turns, or with no pause each has its rounds in a row."""
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for run in ways.values():
        run()
    if pause_s:
        for _ in range(rounds):
            for name, run in ways.items():
                time.sleep(pause_s)
                costs[name].append(run())
    else:
        for name, run in ways.items():
            costs[name] = [run() for _ in range(rounds)]
    return costs


def table(title: str, costs: dict[str, list[Cost]], first: str) -> None:
    """Print medians, the least, CPU and what `first` is of the others."""
    say(f"\n{title}")
    say(f"{'':24}{'median ms':>10}{'least':>8}{'p90':>8}{'CPU ms':>8}  ratio")
    mine = statistics.median(wall for wall, _ in costs[first])
    for name, values in costs.items():
        walls = sorted(wall for wall, _ in values)
        median, ninth = statistics.median(walls), walls[int(len(walls) * 0.9)]
        cpu = statistics.fmean(cpu for _, cpu in values)
        ratio = "" if name == first else f"  {mine / median:.2f} of it"
        say(f"{name:24}{median * 1e3:10.1f}{walls[0] * 1e3:8.1f}{ninth * 1e3:8.1f}{cpu * 1e3:8.1f}{ratio}")


@contextmanager
def root_file_system(folder: Path) -> Iterator[Path]:
    """Make a root file system of busybox, mounted as an overlay for those who mount none themselves."""
    busybox = next(path for path in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(path))
    lower = folder / "lower"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root"):
        (lower / name).mkdir(parents=True)
    shutil.copy(busybox, lower / "bin/busybox")
    for name in ("sh", "true", "sleep", "cat"):
        (lower / "bin" / name).symlink_to("busybox")
    for name in ("hostname", "hosts", "resolv.conf"):
        (lower / "etc" / name).write_text("")
    yield lower


@contextmanager
def overlay(folder: Path, lower: Path) -> Iterator[Path]:
    """Mount it."""
    for name in ("upper", "work", "merged"):
        (folder / name).mkdir()
    merged = folder / "merged"
    options = f"lowerdir={lower},upperdir={folder}/upper,workdir={folder}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=True)
    try:
        yield merged
    finally:
        subprocess.run(["umount", "--lazy", str(merged)], check=True)


@contextmanager
def shares(inn: str, *, asked: bool) -> Iterator[None]:
    """Give the groups of our containers and of the peers' as large a share as this process has."""
    ours = Path("/sys/fs/cgroup/cpu")
    if not asked or not ours.is_dir():
        yield
        return
    theirs = ours / peers_group()
    theirs.mkdir(exist_ok=True)
    for folder in (ours / inn, theirs):
        (folder / "cpu.shares").write_text("262144")
    try:
        yield
    finally:
        with suppress(OSError):
            theirs.rmdir()


def measure_request(inn: Inn, folder: Path, lower: Path, args: argparse.Namespace) -> None:
    """From request to execve."""
    with overlay(folder, lower) as merged:
        peers = oci_peers(folder, merged, inn.config(), say)
        try:
            theirs = {f"{name} run": peer.run for name, peer in peers.items()}
            # What stands by expects what the last request asked, so networks do not alternate.
            for network in ("bridge", "none"):
                ways: dict[str, Callable[[], Cost]] = {f"inn, {network}": partial(inn.request, network)}
                costs = in_turn({**ways, **theirs}, args.rounds, args.pause)
                table(f"request to execve, network {network} (crun, runc: whole `run`)", costs, f"inn, {network}")
            ways = {"inn start, bridge": partial(inn.start, "bridge")}
            table("start of a container that is there", in_turn(ways, args.rounds, args.pause), "inn start, bridge")
        finally:
            for peer in peers.values():
                peer.close()


def measure_oneshot(inn: Inn, folder: Path, lower: Path, args: argparse.Namespace) -> None:
    """`inn run --rm` and its peers, as whole processes."""
    with overlay(folder, lower) as merged:
        peers = {**oci_peers(folder, merged, inn.config(), say), **engine_peers(folder, lower, args.engines, say)}
        try:
            ways = {"inn run --rm": lambda: inn.oneshot()}
            ways |= {f"{name} run": peer.run for name, peer in peers.items()}
            table("one-shot `run --rm IMAGE true`", in_turn(ways, args.rounds, args.pause), "inn run --rm")
        finally:
            for peer in peers.values():
                peer.close()


def measure_port(inn: Inn, folder: Path, lower: Path, args: argparse.Namespace) -> None:
    """The same with a published port."""
    port = ("-p", "127.0.0.1:18080:80")
    peers = engine_peers(folder, lower, args.engines, say)
    try:
        ways = {"inn run --rm -p": lambda: inn.oneshot(*port)}
        ways |= {f"{name} run -p": lambda peer=peer: peer.run(*port) for name, peer in peers.items()}  # type: ignore[misc]
        table("one-shot with bridge, NAT and a port", in_turn(ways, args.rounds, args.pause), "inn run --rm -p")
    finally:
        for peer in peers.values():
            peer.close()


def main() -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="which parts, separated by commas")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds before each run; 0: rounds in a row")
    parser.add_argument("--engines", default="podman,docker", type=lambda text: text.split(","))
    parser.add_argument(
        "--boost",
        action="store_true",
        help="the largest share of the CPU for all of it, where the machine is not quiet",
    )
    parser.add_argument("--starts", type=int, default=100, help="how many at once")
    parser.add_argument("--supervisors", type=int, default=50)
    parser.add_argument("--lives", type=int, default=200)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and so through what cleans up
    say(f"{os.cpu_count()} cores, Linux {os.uname().release}, load {' '.join(map('{:.2f}'.format, os.getloadavg()))}")
    wanted = args.only.split(",")
    if args.boost:
        boost()
    base = Path(tempfile.mkdtemp(prefix="inn-bench-"))
    try:
        with root_file_system(base) as lower, Inn(base / "state", lower) as inn, shares(inn.parent, asked=args.boost):
            for part, measure in (("request", measure_request), ("oneshot", measure_oneshot), ("port", measure_port)):
                if part in wanted:
                    folder = base / part
                    folder.mkdir()
                    measure(inn, folder, lower, args)
            if "many" in wanted:
                start_many.at_once(inn, args.starts, say)
            if "memory" in wanted:
                start_many.memory(inn, args.supervisors, say)
            if "lives" in wanted:
                start_many.lives(inn, args.lives, say)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    say(f"\nload {' '.join(map('{:.2f}'.format, os.getloadavg()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
