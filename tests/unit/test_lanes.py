"""`./run-tests` itself: it counts what ran, and does not pass when something did not."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lanes import guard, process
from tests.lanes.__main__ import beside_the_others, parse, run_lanes
from tests.lanes.catalog import SAME_EVERYWHERE, lanes
from tests.lanes.lane import ROOT, RUN_MARK, Lane, Outcome, Run
from tests.lanes.summary import closing_line, table

ALL = {lane.name: lane for lane in lanes()}


def run_over(folder: Path, text: str, *extra: str) -> Outcome:
    """Run one file of tests as a lane does."""
    path = folder / "test_made_up.py"
    path.write_text(text)
    lane = Lane("made-up", "made up", process.run_pytest, (str(path),))
    return process.run_pytest(lane, Run(Path(sys.executable), folder, ("-p", "no:cacheprovider", *extra), in_ci=False))


def test_a_lane_counts_passes_failures_errors_and_skips(tmp_path: Path) -> None:
    outcome = run_over(
        tmp_path,
        "import pytest\n"
        "@pytest.fixture\ndef bad(): raise OSError('no')\n"
        "def test_1(): pass\n"
        "def test_2(): assert 1 == 2\n"
        "def test_3(bad): pass\n"
        "def test_4(): pytest.skip('there is no moon')\n",
    )

    assert (outcome.passed, outcome.failed, outcome.skipped) == (1, 2, 1)
    assert outcome.skips == {"there is no moon": 1}


def test_a_lane_whose_tests_cannot_be_read_fails(tmp_path: Path) -> None:
    assert run_over(tmp_path, "def test_1(:\n").failed == 1


def test_a_lane_that_finds_no_test_fails(tmp_path: Path) -> None:
    outcome = process.read_report(tmp_path / "absent.xml")
    process.judge(outcome, 5, ALL["unit"], may_be_empty=False)

    assert outcome.failures == ["no test ran"]


def test_a_lane_that_does_not_end_fails(tmp_path: Path) -> None:
    outcome = Outcome(passed=3)
    process.judge(outcome, None, ALL["unit"], may_be_empty=False)

    assert outcome.failed == 1


def test_the_closing_line_counts_all_lanes_and_the_clean_host() -> None:
    results = [(ALL["unit"], Outcome(passed=4, skips={"x": 2})), (ALL["cli"], Outcome(passed=1, failed=1))]

    assert closing_line(results, []) == "6 passed, 1 failed, 2 skipped"
    assert closing_line(results, ["cgroup /a"]) == "5 passed, 2 failed, 2 skipped"
    assert table(results, []).endswith("\n6 passed, 1 failed, 2 skipped")


def test_lanes_are_chosen_by_name_and_the_rest_goes_to_pytest() -> None:
    chosen, extra = parse(["unit", "cli", "-k", "freeze"], ALL)

    assert [lane.name for lane in chosen] == ["unit", "cli"]
    assert extra == ["-k", "freeze"]


def test_without_a_name_all_lanes_run() -> None:
    assert [lane.name for lane in parse([], ALL)[0]] == list(ALL)


def test_lanes_that_do_not_touch_the_host_run_beside_those_that_do() -> None:
    beside = beside_the_others(list(ALL.values()))

    assert [lane.name for lane in beside] == ["tui", "kernel-v2"]
    assert beside_the_others([ALL["unit"], ALL["tui"]]) == [ALL["tui"]]
    assert beside_the_others([ALL["tui"], ALL["kernel-v2"]]) == []


def test_an_interrupted_run_begins_no_further_lane(tmp_path: Path) -> None:
    begun: list[str] = []
    first_runs, over = threading.Event(), threading.Event()

    def beside(lane: Lane, run: Run) -> Outcome:
        begun.append(lane.name)
        first_runs.set()
        over.wait()
        return Outcome()

    def interrupted(lane: Lane, run: Run) -> Outcome:
        first_runs.wait()
        raise KeyboardInterrupt

    apart = [Lane(name, name, beside, is_apart=True) for name in ("one", "two")]
    run = Run(Path(sys.executable), tmp_path, (), in_ci=False)
    with ThreadPoolExecutor(max_workers=1) as pool:
        with pytest.raises(KeyboardInterrupt):
            run_lanes([Lane("host", "host", interrupted), *apart], apart, run, [], pool)
        over.set()

    assert begun == ["one"]


def test_an_unknown_lane_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["unti"], ALL)

    assert "there is no lane 'unti'" in capsys.readouterr().err


def test_every_folder_of_tests_belongs_to_a_lane() -> None:
    root = Path(__file__).resolve().parents[1]
    folders = {f"tests/{path.relative_to(root).parts[0]}" for path in root.rglob("test_*.py")}

    assert folders <= {path for lane in ALL.values() for path in lane.paths}


def test_the_guard_sees_a_process_that_a_test_left(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-c", "input()"]
    left = subprocess.Popen(command, stdin=subprocess.PIPE, env={RUN_MARK: str(tmp_path)})
    try:
        found = guard.left_behind(guard.look(), tmp_path, patience_s=0)
    finally:
        left.communicate()

    assert any(line.startswith(f"process {left.pid} ") for line in found)


def test_the_guard_sees_a_folder_that_a_test_left() -> None:
    before = guard.look()
    folder = Path("/var/tmp/inn-left-by-a-test")
    folder.mkdir()
    try:
        found = guard.left_behind(before, folder, patience_s=0)
    finally:
        folder.rmdir()

    assert "folder /var/tmp/inn-left-by-a-test" in found


def test_what_is_left_out_under_cgroup_v2_is_there_and_all_else_is_run() -> None:
    there = {path.stem for path in (ROOT / "tests/kernel").glob("test_*.py")}
    assert there >= SAME_EVERYWHERE
    assert {Path(path).stem for path in ALL["kernel-v2"].paths} == there - SAME_EVERYWHERE
