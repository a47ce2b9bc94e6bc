"""`python3 app/bootstrap WHAT VENV`: set up for "run", "demo" or "tests"; see the scripts inn and run-tests.

Ends with 0 when the screen can open, even where something optional is missing: that is said.
Ends with 1 when the Python packages themselves are missing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app.bootstrap import debian, vms  # noqa: E402 - the checkout must be on the path first
from app.bootstrap.environment import Environment  # noqa: E402
from app.bootstrap.talk import SetUpFailed, say  # noqa: E402


def main(what: str, folder: Path) -> int:
    """Do the set-up and return the exit code."""
    environment = Environment(folder, ROOT)
    try:
        environment.ensure("requirements-test.lock" if what == "tests" else "requirements.lock")
        if what == "tests":
            environment.stamp("requirements.lock")  # the tests' lock holds the run time's too
    except SetUpFailed as error:
        say(str(error))
        return 1
    if what == "demo":
        _demo(environment)
    elif what == "tests":
        _tests(environment)
    return 0


def _demo(environment: Environment) -> None:
    packages = (*debian.RUN_TIME, *debian.VIRTUAL_MACHINES, *debian.build_packages())
    has_packages = _tried(lambda: debian.install(packages, "virtual machines for the demo"), "the demo's VM is off")
    if _tried(lambda: vms.ensure_libvirt(environment), "VMs are off") and has_packages:
        environment.stamp("requirements.lock", as_name="demo")


def _tests(environment: Environment) -> None:
    _tried(lambda: debian.install(debian.test_packages(), "test lanes"), "lanes that need it will say so")
    _tried(lambda: vms.ensure_libvirt(environment), "the libvirt lane will say so")


def _tried(act: Callable[[], None], otherwise: str) -> bool:
    """Do it; where it fails say why and what is off, and go on."""
    try:
        act()
    except SetUpFailed as error:
        say(f"{error} ({otherwise})")
        return False
    return True


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], Path(sys.argv[2])))
    except KeyboardInterrupt:
        say("interrupted; the next start goes on from here")
        sys.exit(130)
