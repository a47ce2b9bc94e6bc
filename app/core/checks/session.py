"""This user and this process: privileges, Python's packages, the terminal."""

from __future__ import annotations

import importlib.util
import locale
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from backends.base import CheckResult

_CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_ADMIN": 21,
    "CAP_MKNOD": 27,
}
"""What running containers takes, and the number of each."""

_USEFUL = {
    "CAP_SYS_PTRACE": (19, "processes of other users show less"),
    "CAP_SYS_RESOURCE": (
        24,
        "containers cannot raise their limits on open files and the like above this process's own",
    ),
}
"""What they do without: number, and what is lost."""

_LIBVIRT = "As root: ./inn demo. By hand: libvirt-dev, pkg-config and gcc, then: pip install 'innkeeper[libvirt]'"

_PACKAGES = {
    "textual": ("the screen", ""),
    "pyroute2": ("clearing up where a virtual machine's bandwidth cannot be limited", ""),
    "psutil": ("figures of the host", ""),
    "libvirt": ("virtual machines", _LIBVIRT),
}


def check_privileges() -> Sequence[CheckResult]:
    """Say who we are and which capabilities are missing."""
    root = os.geteuid() == 0
    why = "" if root else "This user's containers are apart from root's; system VMs show as far as libvirt lets him"
    user = CheckResult("privileges", "user", root or None, _user_name(), why, "" if root else "Run as root: sudo ./inn")
    if not root:
        return [user]  # he has them in his user namespace
    effective = _effective(Path("/proc/self/status").read_text())
    return [user, _capabilities(effective, "Give this machine or container what is missing")]


def _capabilities(effective: int, mend: str) -> CheckResult:
    missing = [name for name, number in _CAPABILITIES.items() if not effective >> number & 1]
    if missing:
        found = f"missing: {', '.join(missing)}" if len(missing) < len(_CAPABILITIES) else "none"
        return CheckResult("privileges", "capabilities", False, found, "Containers cannot start", mend)
    losses = {name: loss for name, (number, loss) in _USEFUL.items() if not effective >> number & 1}
    if losses:
        why = "; ".join(losses.values())
        return CheckResult("privileges", "capabilities", None, f"missing: {', '.join(losses)}", why, mend)
    return CheckResult("privileges", "capabilities", True, "all that containers take")


def _user_name() -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(os.geteuid()).pw_name} (uid {os.geteuid()})"
    except KeyError:
        return f"uid {os.geteuid()}"


def _effective(status: str) -> int:
    line = next((line for line in status.splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    return int(line.split()[1], 16)


def check_packages() -> Sequence[CheckResult]:
    """Say which Python this is and which libraries it has."""
    python = CheckResult("python", "Python", True, f"{platform.python_version()} ({sys.executable})")
    return [python, *(_package(name) for name in _PACKAGES)]


def _package(name: str) -> CheckResult:
    purpose, mend = _PACKAGES[name]
    if importlib.util.find_spec(name) is not None:
        return CheckResult("python", name, True, _version_of(name))
    return CheckResult(
        "python", name, False, "not installed", f"Off without it: {purpose}", mend or f"pip install {name}"
    )


def _version_of(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version("libvirt-python" if name == "libvirt" else name)
    except metadata.PackageNotFoundError:
        return "version not known"


def check_terminal(environment: Mapping[str, str] = os.environ) -> Sequence[CheckResult]:
    """Say what the terminal can show."""
    if not sys.stdout.isatty():
        return [CheckResult("terminal", "terminal", None, "output goes to a file or a pipe")]
    return [_encoding(), _colors(environment), _size()]


def _encoding() -> CheckResult:
    encoding = locale.getpreferredencoding(False)
    if encoding.upper().replace("-", "") == "UTF8":
        return CheckResult("terminal", "characters", True, encoding)
    why = "Charts and frames need Unicode; they are drawn in plain characters"
    return CheckResult("terminal", "characters", None, encoding, why, "export LC_ALL=C.UTF-8")


def _colors(environment: Mapping[str, str]) -> CheckResult:
    term = environment.get("TERM", "")
    if environment.get("NO_COLOR"):
        return CheckResult("terminal", "colours", None, "switched off by NO_COLOR")
    if term in ("", "dumb"):
        why = "The screen needs a terminal that can move its cursor"
        return CheckResult("terminal", "colours", False, f"TERM={term}", why, "export TERM=xterm-256color")
    if environment.get("COLORTERM") in ("truecolor", "24bit"):
        return CheckResult("terminal", "colours", True, f"16 million ({term})")
    return CheckResult("terminal", "colours", True, f"{256 if '256' in term else 16} ({term})")


def _size() -> CheckResult:
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    if columns >= 80 and rows >= 24:
        return CheckResult("terminal", "size", True, f"{columns}x{rows}")
    return CheckResult("terminal", "size", None, f"{columns}x{rows}", "Made for 80x24 and more; some parts are cut")
