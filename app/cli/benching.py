"""`inn bench compare`: what of the host's speed is left in a container and in a VM."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from app.cli.diagnostics import error_line
from app.cli.figures import NONE, bytes_text
from backends import registry
from backends.benchmark import BenchGuest, Benchmarking
from backends.errors import InnkeeperError, UsageError
from backends.registry import BackendConfig

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.core.comparison import Place, Workload


def bench_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn bench`."""
    acts = parser.add_subparsers(dest="act", metavar="compare", required=True)
    text = "Measure CPU, memory, disk and network on the host, in a container and in a VM, in one run."
    compare = acts.add_parser("compare", help="the host, a container and a VM, side by side", description=text)
    compare.add_argument("--rounds", type=int, default=5, metavar="N", help="so many times; the medians count (5)")
    compare.add_argument("--seconds", type=int, default=3, metavar="N", help="how long each part takes (3)")
    compare.add_argument(
        "--only", default="", metavar="NAMES", help="some of: cpu,memory-write,memory-read,disk-write,disk-read,network"
    )
    compare.add_argument("--no-vm", action="store_true", help="leave the VM out")
    compare.add_argument("--json", action="store_true", help="print an object")


def bench_verb(args: argparse.Namespace, context: Context) -> int:
    """Measure and print the table."""
    from app.core import comparison

    if args.rounds < 1 or args.seconds < 1:
        raise UsageError("bench compare: --rounds and --seconds are at least 1")
    workloads = _chosen(args.only)
    comparison.check_programs(workloads)
    folder = context.settings.paths.state_dir
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _guests(context, with_vm=not args.no_vm) as guests:
        places = comparison.compare(
            guests, folder, workloads, rounds=args.rounds, seconds=args.seconds, say=context.talk.say
        )
    if args.json:
        context.out.json(_as_json(places, workloads, args))
    else:
        _print(context, places, workloads)
    for place in places:
        for name, why in place.failures.items():
            context.talk.note(f"{place.name}: {name} failed: {why}")
    return 1 if any(place.failures for place in places) else 0


def _chosen(names: str) -> Sequence[Workload]:
    from app.core.comparison import WORKLOADS

    wanted = [name for name in names.split(",") if name]
    unknown = [name for name in wanted if name not in {workload.name for workload in WORKLOADS}]
    if unknown:
        known = ", ".join(workload.name for workload in WORKLOADS)
        raise UsageError(f"bench compare: there is no part {unknown[0]!r}", hint=f"there are: {known}")
    return [workload for workload in WORKLOADS if not wanted or workload.name in wanted]


@contextmanager
def _guests(context: Context, *, with_vm: bool) -> Iterator[list[BenchGuest]]:
    """Have a guest of each backend that can be measured; what cannot be had is said and left out."""
    from app.core.comparison import PROGRAMS
    from backends.model import GuestKind

    with ExitStack() as stack:
        found: list[BenchGuest] = []
        for name in context.settings.backends:
            paths = context.settings.paths
            config = BackendConfig(paths.state_dir, paths.run_dir, context.settings.options_for(name))
            try:
                backend = registry.make(name, config)
                if not isinstance(backend, Benchmarking) or (GuestKind.VM in backend.kinds and not with_vm):
                    continue
                try:
                    backend.open()
                except InnkeeperError:
                    if GuestKind.VM not in backend.kinds:  # whose daemon may be started for it
                        raise
                stack.callback(backend.close)
                found.append(stack.enter_context(backend.bench_guest(PROGRAMS, context.talk.say)))
            except InnkeeperError as error:
                context.talk.note(f"{name} is left out: {error_line(error)}")
        yield found


def _print(context: Context, places: Sequence[Place], workloads: Sequence[Workload]) -> None:
    host, *guests = places
    titles = ["", "HOST"]
    for guest in guests:
        titles += [guest.name.partition(" ")[0].upper(), "OF HOST"]
    rows = []
    for workload in workloads:
        scale, unit = _SCALES.get(workload.unit, (1.0, workload.unit))
        row = [f"{workload.title}, {unit}", _figure(host.median(workload.name), scale)]
        for guest in guests:
            mine, theirs = guest.median(workload.name), host.median(workload.name)
            part = _part(mine, theirs)
            row += [_figure(mine, scale), NONE if part is None else f"{part:.4f}"]
        rows.append([*row, f"{workload.published:.4f}" if workload.published else NONE])
    starts = ["" if guest.start_s is None else f"{guest.start_s * 1000:.0f} ms" for guest in guests]
    disks = [bytes_text(guest.disk_bytes) for guest in guests]
    memories = [bytes_text(guest.memory_bytes) for guest in guests]
    for title, texts in (("start", starts), ("on disk", disks), ("in memory", memories)):
        rows.append([title, "", *(cell for text in texts for cell in (text, "")), ""])
    titles.append("DOCKER")
    context.out.table(titles, rows, right=titles[1:])
    for guest in guests:
        if " " in guest.name:
            context.out.line(f"{guest.name.partition(' ')[0]}: {guest.name.partition(' ')[2].strip('()')}")
    context.out.line("DOCKER: what has been published of Docker 1.1.2, as a part of its host's")


_SCALES = {"bytes/s": (1 / 1024**2, "MiB/s"), "bits/s": (1 / 1000, "Mbit/s")}
"""What figures are multiplied with to be told in another unit."""


def _figure(value: float | None, scale: float) -> str:
    return NONE if value is None else f"{value * scale:,.0f}".replace(",", " ")


def _as_json(places: Sequence[Place], workloads: Sequence[Workload], args: argparse.Namespace) -> dict[str, Any]:
    host = places[0]
    return {
        "rounds": args.rounds,
        "seconds": args.seconds,
        "places": [
            {
                "name": place.name,
                "start_s": place.start_s,
                "disk_bytes": place.disk_bytes,
                "memory_bytes": place.memory_bytes,
                "figures": {
                    workload.name: {
                        "median": place.median(workload.name),
                        "rounds": place.figures.get(workload.name, []),
                        "of_host": _part(place.median(workload.name), host.median(workload.name)),
                        "error": place.failures.get(workload.name, ""),
                    }
                    for workload in workloads
                },
            }
            for place in places
        ],
    }


def _part(mine: float | None, theirs: float | None) -> float | None:
    return None if mine is None or not theirs else mine / theirs
