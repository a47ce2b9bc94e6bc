"""The lint lane: style, types and the rules of who may import whom."""

from __future__ import annotations

import sys

from tests.lanes.lane import Lane, Outcome, Run
from tests.lanes.process import call

CHECKS = {
    "ruff check": ("ruff", "check", "."),
    "ruff format": ("ruff", "format", "--check", "."),
    "mypy": ("mypy",),
    "import-linter": ("lint-imports",),
}


def run_lint(lane: Lane, run: Run) -> Outcome:
    """Count each checker as one test."""
    outcome = Outcome()
    for name, (program, *arguments) in CHECKS.items():
        sys.stdout.write(f"-- {name}\n")
        sys.stdout.flush()
        code = call([str(run.python.parent / program), *arguments], lane, run)
        if code == 0:
            outcome.passed += 1
        else:
            outcome.fail(f"{name} ended with {code}")
    return outcome
