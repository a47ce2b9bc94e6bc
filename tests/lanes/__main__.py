"""`./run-tests [LANE…] [PYTEST ARGUMENTS]`: run lanes in turn, then say how each went."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.lanes import guard, summary  # noqa: E402 - the checkout must be on the path first
from tests.lanes.catalog import lanes  # noqa: E402
from tests.lanes.lane import Lane, Outcome, Run  # noqa: E402
from tests.lanes.process import end_all, run_pytest  # noqa: E402


def main(arguments: Sequence[str]) -> int:
    """Run what is asked and return the exit code."""
    known = {lane.name: lane for lane in lanes()}
    chosen, extra = parse(arguments, known)
    scratch = Path(tempfile.mkdtemp(prefix="inntest."))
    scratch.chmod(0o711)  # a plain user's tests go through it, and so do containers with users of their own
    beside = beside_the_others(chosen)
    names = frozenset(lane.name for lane in beside)
    run = Run(Path(sys.executable), scratch, tuple(extra), in_ci=os.environ.get("CI") == "true", beside=names)
    before = guard.look()
    results: list[tuple[Lane, Outcome]] = []
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:  # beside, too, one after another
            run_lanes(chosen, beside, run, results, pool)
    except KeyboardInterrupt:
        sys.stdout.write("\ninterrupted\n")
        return 130
    finally:
        leftovers = guard.left_behind(before, scratch)
        shutil.rmtree(scratch, ignore_errors=True)
        sys.stdout.write(summary.table(results, leftovers) + "\n")
    return 1 if leftovers or any(outcome.failed for _, outcome in results) else 0


def beside_the_others(chosen: Sequence[Lane]) -> list[Lane]:
    """Return the lanes that run beside those that need the host; none if nothing else runs."""
    apart = [lane for lane in chosen if lane.is_apart]
    return apart if len(apart) < len(chosen) else []


def run_lanes(
    chosen: Sequence[Lane], beside: Sequence[Lane], run: Run, results: list[tuple[Lane, Outcome]], pool: Executor
) -> None:
    """Run lanes in turn, and some beside them, whose output follows at the end."""
    running = {lane.name: pool.submit(_run_lane, lane, run) for lane in beside}
    try:
        for lane in chosen:
            if lane not in beside:
                _head(lane)
                results.append((lane, _run_lane(lane, run)))
        for lane in beside:
            _head(lane, "ran beside the others")
            outcome = running[lane.name].result()
            _show(run.log_of(lane))
            results.append((lane, outcome))
    except KeyboardInterrupt:
        for each in running.values():
            each.cancel()
        end_all()  # else the pool would wait for them
        raise


def parse(arguments: Sequence[str], known: dict[str, Lane]) -> tuple[list[Lane], list[str]]:
    """Return the lanes to run, all if none is named, and what is for pytest."""
    parser = argparse.ArgumentParser(
        prog="run-tests",
        description="Set up, then run lanes of tests in turn. Other arguments, such as -k NAME, go to pytest.",
        epilog="\n".join(f"{lane.name:<11}{lane.title}" for lane in known.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("lanes", nargs="*", metavar="LANE", help="run only these (default: all)")
    split = next((i for i, word in enumerate(arguments) if word not in known and word not in ("-h", "--help")), None)
    names = parser.parse_args(arguments[:split]).lanes
    extra = [word for word in (arguments[split:] if split is not None else []) if word != "--"]
    paths = [word for word in extra if Path(word.partition("::")[0]).exists()]
    if extra and not extra[0].startswith("-") and not paths:
        parser.error(f"there is no lane {extra[0]!r}; lanes: {', '.join(known)}")
    if paths and not names:
        return [Lane("chosen", "chosen tests", run_pytest, tuple(paths))], [w for w in extra if w not in paths]
    return [known[name] for name in names] or list(known.values()), extra


def _head(lane: Lane, note: str = "") -> None:
    sys.stdout.write(f"\n===== {lane.name}: {lane.title}{f' ({note})' if note else ''} =====\n")
    sys.stdout.flush()


def _show(log: Path) -> None:
    if log.exists():
        sys.stdout.write(log.read_text(errors="replace"))
        sys.stdout.flush()


def _run_lane(lane: Lane, run: Run) -> Outcome:
    started = time.monotonic()
    lacking = lane.needs()
    if lacking:
        outcome = Outcome()
        (outcome.fail if run.in_ci else outcome.skip)(f"needs {lacking}")
        sys.stdout.write(f"{lane.name} needs {lacking}\n")
    else:
        outcome = lane.run(lane, run)
    outcome.seconds = time.monotonic() - started
    return outcome


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
