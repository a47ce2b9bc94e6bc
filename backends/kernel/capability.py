"""Capabilities: their names, and the steps that limit a process to some of them (capabilities(7))."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import cache

from backends.kernel import linux
from backends.kernel.mounts import KernelStep

_BY_NUMBER = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID "
    "CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW "
    "CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT "
    "CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE "
    "CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM "
    "CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE"
)
CAPABILITIES = _BY_NUMBER.split()
"""By number, as in include/uapi/linux/capability.h."""

SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
"""Their names in the OCI specification."""

_NUMBER = {name: number for number, name in enumerate(CAPABILITIES)}

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
"""Docker's default set."""


def mask_of(names: tuple[str, ...]) -> int:
    """Return the bit mask of capability names; unknown names are left out."""
    return sum(1 << _NUMBER[name] for name in set(names) if name in _NUMBER)


def names_of(mask: int) -> list[str]:
    """Return the names in a bit mask."""
    return [name for number, name in enumerate(CAPABILITIES) if mask >> number & 1]


@cache
def last_capability() -> int:
    """Return the number of the newest capability that this kernel has."""
    number = 0
    while number < 63 and _in_bounding_set(number) is not None:
        number += 1
    return number - 1


@cache
def bounding_mask() -> int:
    """Return the bounding set of this process as it was when first asked."""
    return _bounding_now()


def _in_bounding_set(number: int) -> bool | None:
    try:
        return linux.prctl(linux.PR_CAPBSET_READ, number) == 1
    except OSError:
        return None  # the kernel has no capability of that number


def missing(names: tuple[str, ...]) -> list[str]:
    """Return the names that this kernel does not know or this process may not give (it has them not itself)."""
    here = bounding_mask()
    return sorted(name for name in set(names) if name not in _NUMBER or not here >> _NUMBER[name] & 1)


@dataclass(frozen=True, slots=True)
class DropBounding(KernelStep):
    """Drop from the bounding set all that is not kept; must come before the user changes."""

    kept: tuple[str, ...]
    kind = "capabilities"

    def describe(self) -> str:
        return f"drop all but {len(self.kept)} capabilities from the bounding set"

    def by_hand(self) -> str:
        return "capsh --drop=" + ",".join(name.lower() for name in CAPABILITIES if name not in self.kept)

    def run(self) -> None:
        kept = mask_of(self.kept)
        for number in range(last_capability() + 1):
            if not kept >> number & 1:
                linux.prctl(linux.PR_CAPBSET_DROP, number)


@dataclass(frozen=True, slots=True)
class KeepCapabilities(KernelStep):
    """Let the permitted set survive the change from root to another user; execve forgets this."""

    kind = "capabilities"

    def describe(self) -> str:
        return "keep the permitted capabilities while the user changes"

    def run(self) -> None:
        linux.prctl(_PR_SET_KEEPCAPS, 1)


_PR_SET_KEEPCAPS = 8


@dataclass(frozen=True, slots=True)
class SetCapabilities(KernelStep):
    """Set the remaining sets; what this process does not have is left out."""

    effective: tuple[str, ...]
    permitted: tuple[str, ...]
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()
    kind = "capabilities"

    def describe(self) -> str:
        counts = len(self.permitted), len(self.inheritable), len(self.ambient)
        return "keep {} capabilities, {} inheritable, {} ambient".format(*counts)

    def run(self) -> None:
        have = linux.capget().permitted
        permitted = mask_of(self.permitted) & have
        # Only what the bounding set still holds can become inheritable (CAP_SETPCAP adds from there).
        inheritable = mask_of(self.inheritable) & have & _bounding_now()
        linux.prctl(_PR_SET_KEEPCAPS, 0)
        linux.capset(linux.CapabilitySets(mask_of(self.effective) & permitted, permitted, inheritable))
        try:
            linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_CLEAR_ALL)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a kernel before 4.3 has no such set
                raise
        ambient = mask_of(self.ambient) & permitted & inheritable
        for number in range(len(CAPABILITIES)):
            if ambient >> number & 1:
                linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_RAISE, number)


def _bounding_now() -> int:
    return sum(1 << number for number in range(last_capability() + 1) if _in_bounding_set(number))
