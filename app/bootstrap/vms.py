"""libvirt's client library for Python, compiled into the environment: it has no wheels."""

from __future__ import annotations

import subprocess

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
    if has_libvirt(environment):
        return
    say("compiling libvirt-python, so that virtual machines show")
    lock = environment.root / LOCK
    # The build uses the locked setuptools, not whatever an isolated build would fetch.
    environment.pip("--no-deps", "--require-hashes", "--no-build-isolation", "--requirement", str(lock))
    environment.stamp(LOCK)
