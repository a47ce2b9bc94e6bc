"""What of the native runtime works on this host, for `inn doctor`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from backends.base import CheckResult
from backends.errors import InnkeeperError
from backends.kernel import seccomp
from backends.kernel.cgroup import detect

_AREA = "native"


def check(state_dir: Path) -> Sequence[CheckResult]:
    """Return what matters to containers of our own; never raises."""
    return [_root(), _limits(), _seccomp(), _state(state_dir)]


def _root() -> CheckResult:
    if os.geteuid() == 0:
        return CheckResult(_AREA, "user", True, "root")
    why = "containers of our own need root on this version; VMs and the simulated backend do not"
    return CheckResult(_AREA, "user", False, f"uid {os.geteuid()}", why, "sudo inn")


def _limits() -> CheckResult:
    try:
        reasons = detect().reasons()
    except InnkeeperError as error:
        return CheckResult(_AREA, "limits", False, "none", error.message, error.hint)
    missing = {name: why for name, why in reasons.items() if why and not name.startswith("net_")}
    works = [name for name, why in reasons.items() if not why]
    if not missing:
        return CheckResult(_AREA, "limits", True, f"all {len(works)}")
    why = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
    return CheckResult(_AREA, "limits", None, f"{len(works)} work, {len(missing)} do not", why)


def _seccomp() -> CheckResult:
    reason = seccomp.why_unavailable()
    if reason:
        mend = "Boot a kernel with CONFIG_SECCOMP_FILTER"
        return CheckResult(_AREA, "seccomp filters", False, "not here", reason, mend)
    return CheckResult(_AREA, "seccomp filters", True, "compiled here")


def _state(state_dir: Path) -> CheckResult:
    existing = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    if os.access(existing, os.W_OK):
        return CheckResult(_AREA, "state folder", True, str(state_dir))
    return CheckResult(_AREA, "state folder", False, str(state_dir), f"{existing} cannot be written", "use --root DIR")
