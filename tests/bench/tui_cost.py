#!/usr/bin/env python3
"""What does a terminal program cost while somebody looks at it?

Runs any terminal program in a pseudo-terminal, answers the usual terminal
queries so that it does not stall, and measures

  first paint   launch until the screen (kept by pyte) matches --ready / --live
  steady state  bytes/s to the terminal, bursts/s, write calls/s, CPU of the whole
                process tree, CPU of helper daemons against idle, RSS and PSS
  keys          write() of a key until the first output, and until output is quiet
  exit          quit key, exit status, terminal modes and termios restored

`--vs CMD` (repeatable) or `--suite FILE` runs several programs interleaved
(A B A B ...) and gives ratios from the paired rounds.

Needs Python 3.11 with pyte and psutil.  Root (or a writable cgroup) gives exact
CPU figures that include children that have already gone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.session import Spec, run_once  # noqa: E402 - the checkout must be on the path first
from tests.bench.tree import boost  # noqa: E402

COLUMNS: list[tuple[str, str, str, float]] = [
    ("first_paint_s", "paint ms", "{:.0f}", 1e3),
    ("first_live_s", "live ms", "{:.0f}", 1e3),
    ("startup_cpu_s", "start CPU ms", "{:.0f}", 1e3),
    ("cpu_pct", "CPU %", "{:.2f}", 1),
    ("daemon_extra_cpu_pct", "daemon +%", "{:.2f}", 1),
    ("bytes_per_s", "B/s", "{:.0f}", 1),
    ("zbytes_per_s", "zlib B/s", "{:.0f}", 1),
    ("bursts_per_s", "paints/s", "{:.1f}", 1),
    ("write_calls_per_s", "writes/s", "{:.0f}", 1),
    ("wakeups_per_s", "wakes/s", "{:.0f}", 1),
    ("rss_mib", "RSS MiB", "{:.1f}", 1),
    ("pss_mib", "PSS MiB", "{:.1f}", 1),
    ("key_first_ms", "key ms", "{:.1f}", 1),
    ("key_first_p95_ms", "p95", "{:.1f}", 1),
    ("key_first_p99_ms", "p99", "{:.1f}", 1),
    ("key_quiet_ms", "quiet ms", "{:.1f}", 1),
    ("key_bytes", "key B", "{:.0f}", 1),
    ("keys_without_output", "missed", "{:.0f}", 1),
    ("clean_exit", "clean exit", "{}", 1),
    ("machine_busy_pct", "machine busy %", "{:.0f}", 1),
]


def median_of(rounds: list[dict[str, Any]], key: str) -> Any:
    values = [r[key] for r in rounds if r.get(key) is not None]
    if not values:
        return None
    if isinstance(values[0], bool):
        return all(values)
    return statistics.median(values) if isinstance(values[0], (int, float)) else values[-1]


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    rows = [["program", *(c[1] for c in COLUMNS)]]
    for name, rounds in results.items():
        row = [name]
        for key, _, fmt, scale in COLUMNS:
            v = median_of(rounds, key)
            row.append("-" if v is None else ("yes" if v else "NO") if isinstance(v, bool) else fmt.format(v * scale))
        rows.append(row)
    keep = [i for i in range(len(rows[0])) if i == 0 or any(r[i] != "-" for r in rows[1:])]
    width = [max(len(r[i]) for r in rows) for i in keep]
    return "\n".join(
        "  ".join(r[i].rjust(w) if i else r[i].ljust(w) for i, w in zip(keep, width, strict=True)) for r in rows
    )


def ratios(results: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """For each program but the first: median over rounds of first / other."""
    names = list(results)
    out: dict[str, dict[str, float]] = {}
    for other in names[1:]:
        r: dict[str, float] = {}
        for key in (
            "first_paint_s",
            "first_live_s",
            "cpu_pct",
            "total_cpu_pct",
            "bytes_per_s",
            "zbytes_per_s",
            "rss_mib",
            "pss_mib",
            "key_first_ms",
            "key_quiet_ms",
        ):
            pairs = [
                a[key] / b[key]
                for a, b in zip(results[names[0]], results[other], strict=False)
                if a.get(key) and b.get(key)
            ]
            if pairs:
                r[key] = round(statistics.median(pairs), 3)
        out[f"{names[0]} / {other}"] = r
    return out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cmd", help="the program and its arguments, one shell-quoted string")
    p.add_argument("--name", default="")
    p.add_argument("--vs", action="append", default=[], metavar="CMD", help="interleave with this one")
    p.add_argument("--suite", help="JSON list of programs, each with the fields of Spec")
    p.add_argument("--only", help="comma list of names from the suite")
    p.add_argument("--ready", default=r"\S", help="first useful paint: screen matches this")
    p.add_argument("--live", default="", help="first live data: screen matches this")
    p.add_argument("--settle", type=float, default=3.0)
    p.add_argument("--seconds", type=float, default=15.0)
    p.add_argument("--key", default="Down,Up", help="comma list, pressed in turn ('' for none)")
    p.add_argument("--key-count", type=int, default=40)
    p.add_argument("--pre-keys", default="", help="comma list typed once after the first paint")
    p.add_argument("--quit", default="q", help="comma list of keys that leave the program")
    p.add_argument("--size", default="200x50", help="COLSxROWS")
    p.add_argument("--env", action="append", default=[], metavar="K=V")
    p.add_argument("--daemons", default="", help="comma list of daemon names to charge as well")
    p.add_argument("--idle", type=float, default=5.0, help="seconds of daemon idle taken before each run")
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--launches", type=int, default=1, help="launches per round for first paint")
    p.add_argument(
        "--boost",
        action="store_true",
        help="put the kit and the program in a CPU cgroup with"
        " the largest share: latencies nearly as on a quiet machine (daemons are not boosted)",
    )
    p.add_argument("--no-cgroup", action="store_true")
    p.add_argument("--dump", default="", help="write the last screen here (round and name are added)")
    p.add_argument("--tape", default="", help="write the raw output here (round and name are added)")
    p.add_argument("--json", help="write all rounds here")
    a = p.parse_args()

    if a.boost:
        boost()
    cols, rows = (int(x) for x in a.size.split("x"))
    common = {
        "rows": rows,
        "cols": cols,
        "settle": a.settle,
        "seconds": a.seconds,
        "key_count": a.key_count,
        "cgroup": not a.no_cgroup,
        "daemons": [d for d in a.daemons.split(",") if d],
    }
    env = dict(e.split("=", 1) for e in a.env)
    specs: list[Spec] = []
    if a.suite:
        for entry in json.loads(Path(a.suite).read_text()):
            entry["env"] = {**env, **entry.get("env", {})}
            specs.append(Spec(**{**common, **entry}))
        if a.only:
            want = a.only.split(",")
            specs = sorted((s for s in specs if s.name in want), key=lambda s: want.index(s.name))
    if a.cmd:
        own = {"ready": a.ready, "live": a.live, "keys": a.key, "quit": a.quit, "pre_keys": a.pre_keys, "env": env}
        specs = [Spec(cmd=a.cmd, name=a.name, **own, **common), *specs, *(Spec(cmd=c, **own, **common) for c in a.vs)]
    if not specs:
        p.error("give --cmd or --suite")
    for i, s in enumerate(specs):
        if s.name in {o.name for o in specs[:i]}:
            s.name += f"#{i}"

    results: dict[str, list[dict[str, Any]]] = {s.name: [] for s in specs}

    def report() -> dict[str, Any]:
        r = {
            "size": a.size,
            "seconds": a.seconds,
            "rounds": results,
            "ratios": ratios(results),
            "medians": {
                n: {k: median_of(v, k) for k in dict.fromkeys(k for x in v for k in x)} for n, v in results.items()
            },
        }
        if a.json:
            Path(a.json).write_text(json.dumps(r, indent=1) + "\n")
        return r

    for n in range(a.rounds):
        for s in specs:
            r = dataclasses.replace(
                s,
                dump=f"{a.dump}.{s.name}.{n}.txt" if a.dump else "",
                tape=f"{a.tape}.{s.name}.{n}.bin" if a.tape else "",
            )
            try:
                results[s.name].append(run_once(r, a.launches, a.idle))
            except OSError as e:  # one bad launch does not lose the others
                results[s.name].append({"error": str(e)})
            report()
            print(f"# round {n + 1}/{a.rounds} {s.name} done", file=sys.stderr, flush=True)
    print(table(results))
    final = report()
    if final["ratios"]:
        print("\nratios, median of paired rounds (below 1: the first is cheaper)")
        for pair, r in final["ratios"].items():
            print(f"  {pair}: " + "  ".join(f"{k}={v:g}" for k, v in r.items()))
    if not a.json:
        print(json.dumps(final["medians"]))


if __name__ == "__main__":
    main()
