"""The kernel lane inside user-mode Linux, which has cgroup v2 whatever the host has."""

from __future__ import annotations

import sys

from tests.lanes.lane import ROOT, Lane, Outcome, Run
from tests.lanes.process import call, has_tests, judge, read_report

END_BEFORE_S = 30.0
"""So much sooner than the lane's own limit the guest is ended, so that its report can still be told."""


def run_under_user_mode_linux(lane: Lane, run: Run) -> Outcome:
    """Boot it on this root file system and run pytest over the lane's folders inside."""
    paths = [path for path in lane.paths if has_tests(ROOT / path)]
    report = run.scratch / f"{lane.name}.xml"
    boot = [str(run.python), "-I", "tests/tools/uml.py", "--cgroup", "v2", "--fetch", str(report)]
    boot += ["--timeout", f"{lane.limit_s - END_BEFORE_S:.0f}", "--"]
    # Of this machine's files only /run/host can be written to from inside, where output looks like a terminal.
    color = f"--color={'yes' if sys.stdout.isatty() else 'no'}"
    tests = [str(run.python), "-I", "-m", "pytest", "-q", color, "-p", "no:cacheprovider"]
    tests += ["--junitxml=/run/host/fetched"]
    code = call([*boot, *tests, *run.extra, *paths], lane, run)
    outcome = read_report(report)
    judge(outcome, code, lane, may_be_empty=bool(run.extra))
    return outcome
