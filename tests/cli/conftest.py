"""`inn` as a user runs it: the launcher as a process, with simulated guests and a state folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Done:
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as one JSON document."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """stdout as one JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Inn:
    """Runs `inn` on simulated guests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.options = ["--root", str(root), "--backend", "simulated"]

    def command(self, *arguments: str) -> list[str]:
        """Return the whole command line."""
        return [sys.executable, "-I", str(ROOT / "innkeeper.py"), *self.options, *arguments]

    def environment(self) -> dict[str, str]:
        """Return an environment without the user's own settings of Innkeeper."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("INNKEEPER_")}
        return {**kept, "LC_ALL": "C.UTF-8", "TERM": "xterm"}

    def start(self, *arguments: str, **keywords: Any) -> subprocess.Popen[bytes]:
        """Start it and return the process."""
        return subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(),
            **keywords,
        )

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Done:
        """Run it to its end."""
        done = subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, timeout=15, env=self.environment(), check=False
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def inn(tmp_path: Path) -> Inn:
    """`inn` with a state folder of its own."""
    return Inn(tmp_path / "root")
