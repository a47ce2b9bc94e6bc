"""A lane: one kind of test with what it needs, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Outcome:
    """What a lane brought."""

    passed: int = 0
    failed: int = 0
    skips: dict[str, int] = field(default_factory=dict)
    """Reason → how many tests were skipped for it."""

    failures: list[str] = field(default_factory=list)
    """One line each."""

    seconds: float = 0.0

    @property
    def skipped(self) -> int:
        """How many tests were skipped."""
        return sum(self.skips.values())

    def fail(self, what: str) -> None:
        """Count one more failure."""
        self.failed += 1
        self.failures.append(what)

    def skip(self, reason: str) -> None:
        """Count one more skip."""
        self.skips[reason] = self.skips.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class Run:
    """What all lanes of one run share."""

    python: Path
    """The environment's interpreter."""

    scratch: Path
    """Folder for temporary files, removed at the end."""

    extra: tuple[str, ...]
    """More arguments for pytest."""

    in_ci: bool
    """What a lane needs must be there."""

    beside: frozenset[str] = frozenset()
    """Names of lanes that run beside the others; their output goes to a file until its turn comes."""

    def log_of(self, lane: Lane) -> Path:
        """Return where a lane that runs beside the others writes."""
        return self.scratch / f"{lane.name}.log"

    def environ(self, lane: Lane) -> dict[str, str]:
        """Return the environment that the lane's processes get."""
        own = {"TMPDIR": str(self.scratch), RUN_MARK: str(self.scratch), "PYTHONUNBUFFERED": "1"}
        if self.in_ci and lane.expects:
            own["INNKEEPER_EXPECT"] = ",".join(lane.expects)
        # A user's own state and settings must not reach the tests, nor theirs the user's guests.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("INNKEEPER_", "PYTEST_"))}
        return kept | own


RUN_MARK = "INNKEEPER_TEST_RUN"
"""Environment variable by which processes of a run are known, even when their parents have gone."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One kind of test."""

    name: str
    title: str
    run: Callable[[Lane, Run], Outcome]
    paths: tuple[str, ...] = ()
    """Folders of tests, below the root."""

    needs: Callable[[], str] = lambda: ""
    """Say in one clause what is missing for the lane as a whole; empty if it can run."""

    expects: tuple[str, ...] = ()
    """Facilities whose absence fails a test in CI instead of skipping it."""

    is_apart: bool = False
    """It neither changes what others see of this host nor looks at it, so that it can run beside other lanes."""

    limit_s: float = 600.0
    """The lane is ended and fails after that."""
