"""The AppArmor profile that containers get where the kernel has AppArmor and no other is asked for.

Equal in effect to Docker's default: everything that namespaces, capabilities and the filter leave open, but no
mounts, no writing to what of /proc and /sys is the host's, and no signals or tracing across containers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from backends.errors import InnkeeperError, Unsupported
from backends.kernel import lsm
from backends.kernel.mounts import KernelStep
from backends.native import rootless

NAME = "innkeeper-default"
_PARSERS = ("/sbin/apparmor_parser", "/usr/sbin/apparmor_parser")
_LOADED = "/sys/kernel/security/apparmor/profiles"
_PATIENCE_S = 30.0

PROFILE = f"""\
profile {NAME} flags=(attach_disconnected,mediate_deleted) {{
  network,
  capability,
  file,
  umount,
  unix,
  dbus,
  signal (receive) peer=unconfined,
  signal (send,receive) peer={NAME},
  ptrace (trace,read,tracedby,readby) peer={NAME},

  deny mount,
  # In /proc only processes, and of /proc/sys only shared memory, can be written.
  deny /proc/* w,
  deny /proc/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,
  # Of /sys only the cgroups.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"""


def default_profile() -> str | None:
    """Return the profile that a container gets without being asked; None where none can be loaded."""
    may_load = os.geteuid() == 0 and not rootless.is_inside()
    return NAME if may_load and lsm.has_apparmor() and os.path.exists(_LOADED) and _parser() else None


def check(name: str) -> None:
    """Raise Unsupported for a profile that the kernel does not have."""
    if not lsm.has_apparmor():
        raise Unsupported(f"AppArmor profile {name}: this kernel runs without AppArmor")
    known = loaded()
    if known is not None and name not in known and name != NAME:
        raise Unsupported(f"AppArmor profile {name} is not loaded", hint="apparmor_parser -r FILE")


def loaded() -> set[str] | None:
    """Return the names of the profiles in the kernel; None if this user may not know."""
    try:
        with open(_LOADED, encoding="utf-8", errors="replace") as file:
            return {line.rpartition(" (")[0] for line in file}
    except OSError:
        return None


def _parser() -> str:
    return next((path for path in _PARSERS if os.access(path, os.X_OK)), "")


@dataclass(frozen=True, slots=True)
class LoadProfile(KernelStep):
    """Give the kernel our profile, if it does not have it since it came up."""

    kind = "apparmor"

    def describe(self) -> str:
        return f"load the AppArmor profile {NAME}, unless it is there"

    def by_hand(self) -> str:
        return f"apparmor_parser --replace --skip-cache {NAME}"

    def run(self) -> None:
        known = loaded()
        if known is not None and NAME in known:
            return
        import subprocess  # rarely needed, and a supervisor is to stay small

        line = [_parser() or _PARSERS[0], "--replace", "--skip-cache"]
        try:
            done = subprocess.run(
                line, input=PROFILE, capture_output=True, text=True, timeout=_PATIENCE_S, check=False, cwd="/"
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InnkeeperError(f"cannot load the AppArmor profile {NAME}: {error}") from error
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            hint = "--security-opt apparmor=unconfined does without"
            raise InnkeeperError(f"cannot load the AppArmor profile {NAME}: {said}", hint=hint)
