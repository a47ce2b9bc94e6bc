"""The kernel lane inside user-mode Linux, which has cgroup v2 whatever the host has."""

from __future__ import annotations

from tests.lanes.lane import ROOT, Lane, Outcome, Run
from tests.lanes.process import call, has_tests, judge, read_report


def run_under_user_mode_linux(lane: Lane, run: Run) -> Outcome:
    """Boot it on this root file system and run pytest over the lane's folders inside."""
    paths = [path for path in lane.paths if has_tests(ROOT / path)]
    report = run.scratch / f"{lane.name}.xml"
    tests = [str(run.python), "-I", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    code = call([str(run.python), "-m", "tests.tools.uml", "--", *tests, *run.extra, *paths], lane, run)
    outcome = read_report(report)
    judge(outcome, code, lane, may_be_empty=bool(run.extra))
    return outcome
