"""libvirt's client library for Python, compiled into the environment: it has no wheels."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from app.bootstrap.environment import Environment
from app.bootstrap.talk import say

LOCK = "requirements-libvirt.lock"


def has_libvirt(environment: Environment) -> bool:
    """Whether VMs can be reached from the environment."""
    if not environment.holds(LOCK):
        return False
    command = [str(environment.python), "-I", "-c", "import libvirt"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def ensure_libvirt(environment: Environment) -> None:
    """Compile it, unless it is there. Raises SetUpFailed."""
    with environment.alone():
        if has_libvirt(environment):
            return
        say("compiling libvirt-python, so that virtual machines show")
        lock = environment.root / LOCK
        with tempfile.TemporaryDirectory() as folder:
            tool = Path(folder, "build-tool.lock")
            tool.write_text(part_of(lock.read_text(), "setuptools"))
            environment.pip("--no-deps", "--require-hashes", "--requirement", str(tool))
        # The build uses that locked tool, not whatever an isolated build would fetch.
        environment.pip("--no-deps", "--no-build-isolation", "--require-hashes", "--requirement", str(lock))
        environment.stamp(LOCK)


def part_of(lock: str, package: str) -> str:
    """Return the lines of a lock that pin one package."""
    lines = lock.splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{package}=="))
    hashes = (i for i in range(start + 1, len(lines)) if not lines[i].startswith(" "))
    return "".join(lines[start : next(hashes, len(lines))])
