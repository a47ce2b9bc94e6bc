"""Many containers: at once, beside each other, one after the other."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

from backends.errors import InnkeeperError
from backends.kernel.rtnetlink import Rtnetlink
from backends.model import Guest, GuestState
from tests.bench.start_inn import Inn, R

Say = Callable[[str], None]


def at_once(inn: Inn, count: int, say: Say) -> None:
    """Ask for many starts at the same moment, each on a thread of its own."""
    guests: list[Guest] = []
    errors: list[InnkeeperError] = []
    times: list[float] = []

    def one() -> None:
        began = time.perf_counter()
        try:
            guests.append(inn.run("sleep", "1000"))
            times.append(time.perf_counter() - began)
        except InnkeeperError as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    running = sum(guest.state == GuestState.RUNNING for guest in inn.backend.guests())
    first = f": {errors[0]}" if errors else ""
    say(f"\n{count} starts at once: {running} running after {took:.2f} s, {took / count * 1e3:.1f} ms each; "
        f"longest {max(times, default=0):.2f} s; {len(errors)} errors{first}")  # fmt: skip
    for guest in guests:
        inn.remove(guest)


def memory(inn: Inn, count: int, say: Say) -> None:
    """Print the proportional set size of the supervisors of many idle containers."""
    guests = [inn.run("sleep", "1000") for _ in range(count)]
    pids = [inn.supervisor_pid(guest) for guest in guests]
    for guest in guests:
        inn.backend.processes(guest.ref)
    figures = [_rollup(pid) for pid in pids]
    spawner = _rollup(inn.spawner_pid())
    pss, private = [f["Pss"] for f in figures], [f["Private_Dirty"] for f in figures]
    say(f"\n{count} supervisors: PSS median {statistics.median(pss) / 1024:.2f} MiB, most {max(pss) / 1024:.2f}; "
        f"private dirty {statistics.median(private) / 1024:.2f} MiB; "
        f"all together with the spawner {(sum(pss) + spawner['Pss']) / 1024:.0f} MiB")  # fmt: skip
    for guest in guests:
        inn.remove(guest)


def lives(inn: Inn, count: int, say: Say) -> None:
    """Start and remove containers one after the other, and say what is left."""
    inn.remove(inn.run("true"))
    before = left(inn)
    began = time.perf_counter()
    for _ in range(count):
        inn.remove(inn.run("true"))
    took = time.perf_counter() - began
    inn.settle()
    after = left(inn)
    say(f"\n{count} starts and removals: {took:.1f} s, {took / count * 1e3:.1f} ms each")
    for what, things in after.items():
        new = sorted(set(things) - set(before[what]))
        say(f"  {what}: {len(new)} more than before{': ' + ', '.join(new[:5]) if new else ''}")
    swept = list(inn.backend.clean(R))
    say(f"  `inn clean` found {len(swept)}: {swept[:3]}" if swept else "  `inn clean` found nothing")


def left(inn: Inn) -> dict[str, list[str]]:
    """Return what lives can leave behind. What stands by for the next one is not counted."""
    root, spawner = str(inn.state), inn.spawner_pid()
    time.sleep(0.3)  # so that it does stand by, each time
    standing = (inn.state / "run" / "stands-by").read_text().split()
    groups = [path for top in Path("/sys/fs/cgroup").glob("*") for path in top.glob(f"{inn.parent}/*")]
    theirs = {f"inn{container_id[:10]}" for container_id in standing}
    with Rtnetlink() as route:
        links = [link.name for link in route.links() if link.name.startswith("inn") and link.name not in theirs]
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if root in line]
    children = Path(f"/proc/{spawner}/task/{spawner}/children").read_text().split()
    named = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text().startswith("inn:")]
    places = ("containers", "names", "leases", "run/containers")
    return {
        "cgroups": [str(path) for path in groups if path.name not in standing],
        "links": links,
        "mounts": mounts,
        "supervisors": named,
        "files": [str(path) for name in places for path in (inn.state / name).glob("*")],
        "descriptors of the spawner": [str(number) for number in range(len(os.listdir(f"/proc/{spawner}/fd")))],
    }


def _rollup(pid: int) -> dict[str, int]:
    """Return the figures of /proc/PID/smaps_rollup in KiB."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0])
    return found
