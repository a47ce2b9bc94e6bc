"""What the screen costs with many guests: CPU, bytes, first live paint, key to paint.

    .venv/bin/python tests/bench/screen.py [--guests 40] [--rounds 3] [--only simulated,native,stock,htop]

Runs the screen over simulated guests, over as many real containers (as root), and two peers in the same
run, interleaved: the same list in Textual's stock DataTable, and htop where it is installed. Prints the
medians, the ratios of paired rounds, and how the figures stand to the goals. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from backends import registry  # noqa: E402 - the checkout must be on the path first
from backends.base import Closing  # noqa: E402
from backends.registry import BackendConfig  # noqa: E402
from tests.bench.session import Spec, run_once  # noqa: E402
from tests.bench.tree import boost  # noqa: E402
from tests.bench.tui_cost import median_of, ratios, table  # noqa: E402

INN = [sys.executable, "-I", str(ROOT / "innkeeper.py")]

GOALS = {
    "cpu_pct": (3.0, "CPU, % of a core"),
    "bytes_per_s": (4096.0, "bytes/s to the terminal"),
    "first_live_s": (1.2, "first live paint, s"),
    "key_first_ms": (15.0, "key to paint, ms, median"),
}
"""Figure → the most it may be, for the rows of ours."""

LOADS = (
    "while :; do :; done",
    "while :; do sleep 0.01; done",
    "i=0; while :; do i=$((i + 1)); echo $i > /tmp/f; sleep 0.2; done",
    "sleep 100000",
)
"""What the containers do, in turn; quotas keep the busy ones small."""

Results = dict[str, list[dict[str, Any]]]


def specs(guests: int, only: set[str], root: Path | None, seconds: float) -> list[Spec]:
    """Return what to run, ours first."""
    shape = {"rows": 50, "cols": 160, "seconds": seconds, "settle": 4.0}
    live = r"\b\d+\.\d\b"
    simulated = shlex.join([*INN, "--backend", "simulated", "--option", f"simulated.guests={guests}"])
    found = [Spec(cmd=simulated, name="simulated", live=live, **shape)]  # type: ignore[arg-type]
    if root is not None:
        native = shlex.join([*INN, "--root", str(root), "--backend", "native"])
        found.append(Spec(cmd=native, name="native", ready="bench-0", live=live, **shape))  # type: ignore[arg-type]
    stock = shlex.join([sys.executable, "-I", str(Path(__file__).with_name("stock_table.py")), str(guests)])
    found.append(Spec(cmd=stock, name="stock", ready="guest-0", live="guest-0", **shape))  # type: ignore[arg-type]
    if shutil.which("htop"):
        found.append(Spec(cmd="htop -d 10", name="htop", live="PID", **shape))  # type: ignore[arg-type]
    return [spec for spec in found if not only or spec.name in only]


@contextmanager
def containers(count: int) -> Iterator[Path]:
    """Run so many containers under a root of their own; remove them all at the end."""
    with tempfile.TemporaryDirectory(prefix="inn-bench-", dir="/var/tmp") as folder:
        inn = [*INN, "--root", folder, "--backend", "native"]
        names = [f"bench-{number:02d}" for number in range(count)]
        try:
            for number, name in enumerate(names):
                load = LOADS[number % len(LOADS)]
                limits = ["--cpus", "0.02", "--memory", "64M"]
                subprocess.run([*inn, "run", "--detach", "--name", name, *limits, "host", "sh", "-c", load],
                               check=True, stdout=subprocess.DEVNULL)  # fmt: skip
            yield Path(folder)
        finally:
            subprocess.run([*inn, "rm", "--force", *names], stdout=subprocess.DEVNULL)
            _end_spawner(Path(folder))
            subprocess.run([*inn, "clean"], stdout=subprocess.DEVNULL)
            _end_spawner(Path(folder))


def _end_spawner(root: Path) -> None:
    """Tell the helper process to go; containers would need it again, but there are none."""
    backend = registry.make("native", BackendConfig(root, root / "run"))
    if isinstance(backend, Closing):
        backend.shutdown()


def measure(programs: list[Spec], rounds: int, launches: int) -> Results:
    """Run all in turn, so often."""
    results: Results = {program.name: [] for program in programs}
    for number in range(rounds):
        for program in programs:
            results[program.name].append(run_once(program, launches, 0.0))
            sys.stderr.write(f"# round {number + 1}/{rounds}, {program.name} done\n")
    return results


def goals(results: Results) -> str:
    """Say how our medians stand to the goals."""
    lines = []
    for name in ("simulated", "native"):
        for key, (most, title) in GOALS.items():
            found = median_of(results[name], key) if name in results else None
            if found is not None:
                lines.append(
                    f"{name:<10} {title:<26} {found:>9.2f}  goal {most:g}  {'met' if found <= most else 'MISSED'}"
                )
    return "\n".join(lines)


def report(results: Results, file: str) -> None:
    """Print all, and write every round to a file if one is named."""
    pairs = ratios(results)
    sys.stdout.write(table(results) + "\n\n" + goals(results) + "\n")
    for pair, found in pairs.items():
        sys.stdout.write(f"{pair}: " + "  ".join(f"{key}={value:g}" for key, value in found.items()) + "\n")
    if file:
        Path(file).write_text(json.dumps({"rounds": results, "ratios": pairs}, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--guests", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--launches", type=int, default=3, help="launches a round for the first paint")
    parser.add_argument("--seconds", type=float, default=20.0, help="of steady state a round")
    parser.add_argument("--only", default="", help="comma list of simulated, native, stock, htop")
    parser.add_argument(
        "--boost", action="store_true", help="the largest share of the CPU, for a machine that is not quiet"
    )
    parser.add_argument("--json", default="", metavar="FILE", help="write every round here")
    options = parser.parse_args()
    only = {name for name in options.only.split(",") if name}
    if options.boost:
        boost()
    if os.geteuid() == 0 and (not only or "native" in only):
        with containers(options.guests) as root:
            programs = specs(options.guests, only, root, options.seconds)
            results = measure(programs, options.rounds, options.launches)
    else:
        programs = specs(options.guests, only, None, options.seconds)
        results = measure(programs, options.rounds, options.launches)
    report(results, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
