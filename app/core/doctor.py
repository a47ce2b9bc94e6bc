"""`inn doctor`: what works on this host and, for what does not, why and what would mend it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from app.core.checks.cgroup import check_cgroup
from app.core.checks.kernel import check_kernel
from app.core.checks.machine import check_machine
from app.core.checks.session import check_packages, check_privileges, check_terminal
from app.core.settings import Settings
from backends import registry
from backends.base import CheckResult
from backends.errors import InnkeeperError
from backends.registry import BackendConfig

Check = Callable[[], Sequence[CheckResult]]

PATIENCE_S = 60.0
"""For all checks together; booting a guest under KVM is among them."""


def collect(settings: Settings, *, patience_s: float = PATIENCE_S) -> list[CheckResult]:
    """Run all checks at once, each in a thread of its own, and return what they found, in a fixed order.

    One that has no answer in time is reported as such, and does not hold up the others.
    """
    deadline = time.monotonic() + patience_s
    running = [_Running(area, check) for area, check in checks_for(settings)]
    return [result for one in running for result in one.results(deadline - time.monotonic())]


def checks_for(settings: Settings) -> list[tuple[str, Check]]:
    """Return (area, check) for all that is looked at with these settings."""
    return [
        ("kernel", partial(check_kernel, settings.paths.state_dir)),
        ("cgroup", check_cgroup),
        ("privileges", check_privileges),
        ("machine", check_machine),
        *((name, partial(_check_backend, settings, name)) for name in settings.backends),
        ("python", check_packages),
        ("terminal", check_terminal),
    ]


def _check_backend(settings: Settings, name: str) -> Sequence[CheckResult]:
    paths = settings.paths
    try:
        backend = registry.make(name, BackendConfig(paths.state_dir, paths.run_dir, settings.options_for(name)))
    except InnkeeperError as error:
        return [CheckResult(name, "backend", False, "cannot be made", error.message, error.hint)]
    except ImportError as error:
        return [CheckResult(name, "backend", False, "cannot be loaded", str(error))]
    return backend.check()


class _Running:
    """One check at work in a thread of its own, which ends with it or with the process."""

    def __init__(self, area: str, check: Check) -> None:
        self._area = area
        self._check = check
        self._found: Sequence[CheckResult] = ()
        self._thread = threading.Thread(target=self._run, name=f"doctor-{area}", daemon=True)
        self._thread.start()

    def results(self, patience_s: float) -> Sequence[CheckResult]:
        """Wait for it and return what it found."""
        self._thread.join(max(0.0, patience_s))
        if self._thread.is_alive():
            why = "Something that it asked hangs; the rest of the host is told without it"
            return [CheckResult(self._area, "check", False, "no answer in time", why)]
        return self._found

    def _run(self) -> None:
        try:
            self._found = self._check()
        except Exception as error:  # the thread's end: it reports what no check foresaw
            why = f"{type(error).__name__}: {error}"
            self._found = [CheckResult(self._area, "check", False, "failed", why)]
