"""The kernel: its version, and what it lets this user do, each thing tried."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from backends.base import CheckResult
from backends.kernel.probe import NAMESPACES, Trial, run_probes

_AREA = "kernel"

_LONG_NAMES = {"mnt": "mount", "net": "network"}

_UNUSED = {"time", "user"}
"""Namespaces that no container of ours needs yet: their absence is a note."""


def check_kernel(folder: Path) -> Sequence[CheckResult]:
    """Say what works; overlays are tried on the disk that holds the folder."""
    trials = run_probes(folder)
    return [
        _version(),
        *(_namespace(name, trials.get(name)) for name in NAMESPACES),
        _unprivileged(trials),
        _overlay(trials.get("overlay")),
        _seccomp(trials.get("seccomp")),
        _nftables(trials.get("nftables")),
        _pressure(),
        _criu(),
    ]


def _version() -> CheckResult:
    release = platform.release()
    found = f"Linux {release}, {platform.machine()}"
    if _numbers(release) >= (5, 10):
        return CheckResult(_AREA, "version", True, found)
    why = "Innkeeper is tested from Linux 5.10 on; an older kernel lacks calls that containers need"
    return CheckResult(_AREA, "version", None, found, why, "Boot a newer kernel")


def _numbers(release: str) -> tuple[int, ...]:
    digits = ["".join(ch for ch in part if ch.isdecimal()) for part in release.split("-")[0].split(".")[:2]]
    return tuple(int(part or 0) for part in digits)


def _namespace(name: str, trial: Trial | None) -> CheckResult:
    title = f"{_LONG_NAMES.get(name, name)} namespace"
    if not Path("/proc/self/ns", name).exists():
        return CheckResult(_AREA, title, False, "not in this kernel", "Containers need it", "Boot a kernel that has it")
    if trial is None:
        return _untried(title)
    if trial.ok:
        return CheckResult(_AREA, title, True, "works")
    if trial.errno == errno.EPERM and os.geteuid() != 0:
        return CheckResult(_AREA, title, None, "in a user namespace only", "This user's containers are in one")
    found = f"refused: {trial.answer}"
    if name in _UNUSED:
        return CheckResult(_AREA, title, None, found, "Nothing needs it yet")
    return CheckResult(_AREA, title, False, found, "Containers cannot start", _as_root())


def _unprivileged(trials: Mapping[str, Trial]) -> CheckResult:
    title = "user namespaces, unprivileged"
    trial = trials.get("user-unprivileged" if os.geteuid() == 0 else "user")
    if trial is None:
        return _untried(title)
    if trial.ok:
        return CheckResult(_AREA, title, True, "works")
    mend = next((f"sysctl -w {key}={value}" for key, value in _SYSCTLS if _differs(key, value)), "")
    return CheckResult(_AREA, title, None, f"refused: {trial.answer}", "Only root can run containers here", mend)


_SYSCTLS = (
    ("kernel.unprivileged_userns_clone", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "0"),
    ("user.max_user_namespaces", "15000"),
)
"""Settings by which distributions forbid it → the value that allows it."""


def _differs(key: str, value: str) -> bool:
    path = Path("/proc/sys", key.replace(".", "/"))
    try:
        now = path.read_text().strip()
    except OSError:
        return False
    return now == "0" if value != "0" else now != "0"


def _overlay(trial: Trial | None) -> CheckResult:
    if trial is None:
        return _untried("overlay")
    if trial.ok:
        return CheckResult(_AREA, "overlay", True, "works on the disk that keeps the containers")
    why = "Containers cannot share an image's files"
    mend = _as_root() or "modprobe overlay, or keep the state on ext4 or xfs with --root"
    return CheckResult(_AREA, "overlay", False, f"refused: {trial.answer}", why, mend)


def _seccomp(trial: Trial | None) -> CheckResult:
    from backends.kernel.seccomp import why_unavailable

    if trial is None:
        return _untried("seccomp")
    if not trial.ok:
        why = "Containers cannot have a system call filter"
        return CheckResult(
            _AREA, "seccomp", False, f"refused: {trial.answer}", why, "Boot a kernel with CONFIG_SECCOMP_FILTER"
        )
    lacking = why_unavailable()
    if lacking:
        return CheckResult(_AREA, "seccomp", False, "no filters for this machine", lacking, "")
    return CheckResult(_AREA, "seccomp", True, "filters load")


def _nftables(trial: Trial | None) -> CheckResult:
    if trial is None:
        return _untried("nftables")
    if trial.ok:
        return CheckResult(_AREA, "nftables", True, "answers")
    why = "Containers reach each other, but no address translation or published port can be set up"
    return CheckResult(_AREA, "nftables", None, f"refused: {trial.answer}", why, _as_root() or "modprobe nf_tables")


def _pressure() -> CheckResult:
    try:
        Path("/proc/pressure/cpu").read_text()
    except OSError as error:
        why = f"Pressure (the share of time in which tasks wait) is not shown: {error.strerror}"
        return CheckResult(_AREA, "pressure (PSI)", None, "not there", why, "Boot with psi=1")
    return CheckResult(_AREA, "pressure (PSI)", True, "works")


def _criu() -> CheckResult:
    from backends.oci import criu

    version, why = criu.version(), criu.why_not()
    found = f"version {version}" if version else "not installed"
    if not why:
        return CheckResult(_AREA, "CRIU", True, found)
    loss = "running containers cannot be written to disk and brought back"
    mend = _as_root() or ("a newer CRIU" if version else "apt install criu")
    return CheckResult(_AREA, "CRIU", None, found, f"{why}; {loss}", mend)


def _untried(title: str) -> CheckResult:
    return CheckResult(_AREA, title, None, "not known", "The trial did not come to an answer")


def _as_root() -> str:
    return "" if os.geteuid() == 0 else "Run as root: sudo ./inn"
