"""Running a lane's programs: output passes through, and all of them end in time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from tests.lanes.lane import ROOT, Lane, Outcome, Run


def call(command: Sequence[str], lane: Lane, run: Run) -> int | None:
    """Run a program in the root folder and return its exit code; None if it had to be ended."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(run.log_of(lane).open("wb")) if lane.name in run.beside else None
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=run.environ(lane),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
        )
        _live.add(process)
        try:
            return process.wait(timeout=lane.limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                _end(process)
            _live.discard(process)


_live: set[subprocess.Popen[bytes]] = set()


def end_all() -> None:
    """End the programs of lanes that run beside the one that was interrupted."""
    for process in tuple(_live):
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and its children; SIGINT first, so that fixtures clean up."""
    for number, patience_s in ((signal.SIGINT, 20.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=patience_s)
            return


def run_pytest(lane: Lane, run: Run) -> Outcome:
    """Run pytest over the lane's folders."""
    paths = [path for path in lane.paths if has_tests(ROOT / path.partition("::")[0])]
    report = run.scratch / f"{lane.name}.xml"
    command = [str(run.python), "-I", "-m", "pytest", "-q", f"--junitxml={report}", *run.extra, *paths]
    if not paths:
        outcome = Outcome()
        outcome.fail(f"there are no tests in {' '.join(lane.paths)}")
        return outcome
    code = call(command, lane, run)
    outcome = read_report(report)
    judge(outcome, code, lane, may_be_empty=bool(run.extra))
    return outcome


def judge(outcome: Outcome, code: int | None, lane: Lane, *, may_be_empty: bool) -> None:
    """Make a failure of what the report does not show: a lane that ended early or tested nothing."""
    nothing = outcome.passed + outcome.failed + outcome.skipped == 0
    if code is None:
        outcome.fail(f"did not end within {lane.limit_s:.0f} s")
    elif code not in (0, 1, 2, 5) or (code in (1, 2) and not outcome.failed):
        outcome.fail(f"pytest ended with {code}")
    elif nothing and not may_be_empty:
        outcome.fail("no test ran")


def read_report(report: Path) -> Outcome:
    """Return what a JUnit report counts; an absent one counts nothing."""
    outcome = Outcome()
    if not report.exists():
        return outcome
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        skip = case.find("skipped")
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        if bad is not None:
            outcome.fail(f"{name}: {(bad.get('message') or '').splitlines()[0][:160] if bad.get('message') else ''}")
        elif skip is not None and skip.get("type") != "pytest.xfail":
            outcome.skip(skip.get("message") or "no reason given")
        else:
            outcome.passed += 1
    return outcome


def has_tests(path: Path) -> bool:
    """Whether there is a test in a folder, or the path is a file."""
    return path.is_file() or any(path.rglob("test_*.py"))
