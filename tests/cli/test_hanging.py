"""A backend that hangs: every verb that reads answers within its bound and says what it tried, on what."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.cli.main import main
from tests.cli.conftest import ROOT, Inn

IMPATIENT = """
import sys
from dataclasses import replace
sys.path.insert(0, sys.argv.pop(1))
import app.cli.main as cli
from app.core.settings import Pace
settings_of = cli.settings_of
pace = Pace(answer_within_s=0.05, stop_within_s=0.1)
cli.settings_of = lambda parsed: replace(settings_of(parsed), pace=pace)
sys.exit(cli.main(sys.argv[1:]))
"""
"""`inn` that waits a moment where users wait seconds. A process, because what hangs goes on hanging."""


@pytest.mark.parametrize(
    "call, arguments",
    [
        ("inspect", ("inspect", "db")),
        ("limits", ("limits", "db")),
        ("processes", ("processes", "db")),
        ("snapshots", ("snapshot", "ls", "db")),
        ("trace", ("trace", "db")),
        ("images", ("image", "ls")),
        ("sample", ("limit", "db", "--cpus", "1")),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_an_answer_that_does_not_come_is_said(inn: Inn, call: str, arguments: tuple[str, ...]) -> None:
    words = [*inn.options, "--option", f"simulated.hang={call}", *arguments]
    done = subprocess.run(
        [sys.executable, "-I", "-c", IMPATIENT, str(ROOT), *words],
        capture_output=True,
        text=True,
        timeout=15,
        env=inn.environment(),
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("inn: cannot ")
    assert done.stderr.endswith("simulated guests: no answer for 0.05 s\n")


def test_an_operation_that_takes_long_says_so_and_is_waited_for(
    inn: Inn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.operating._LONG_S", 0.05)

    code = main([*inn.options, "--option", "simulated.verb_s=0.5", "stop", "db"])

    said = capsys.readouterr()
    assert (code, said.out) == (0, "db\n")
    assert said.err == "inn: stop db: not done after 0.05 s, still waiting; Ctrl-C leaves it alone\n"
