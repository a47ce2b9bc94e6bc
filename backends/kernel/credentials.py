"""Who the program is: users, capabilities, resource limits, as steps (capabilities(7), credentials(7)).

These act on the calling thread only and run in the container's init, which has one thread.
"""

from __future__ import annotations

import os
import resource
import stat
from dataclasses import dataclass
from pathlib import Path

from backends.kernel import linux, rooted
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
    return sum(1 << CAPABILITIES.index(name) for name in set(names) if name in CAPABILITIES)


def names_of(mask: int) -> list[str]:
    """Return the names in a bit mask."""
    return [name for number, name in enumerate(CAPABILITIES) if mask >> number & 1]


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
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
        kept = mask_of(self.kept)
        for number in range(last + 1):
            if not kept >> number & 1:
                linux.prctl(linux.PR_CAPBSET_DROP, number)


@dataclass(frozen=True, slots=True)
class SetCapabilities(KernelStep):
    """Set the remaining sets; what this process does not have is left out and said so by the kernel's answer."""

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
        sets = linux.CapabilitySets(mask_of(self.effective) & permitted, permitted, mask_of(self.inheritable) & have)
        linux.capset(sets)
        linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_CLEAR_ALL)
        for number, name in enumerate(CAPABILITIES):
            if name in self.ambient and permitted >> number & 1:
                linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_RAISE, number)


@dataclass(frozen=True, slots=True)
class NoNewPrivileges(KernelStep):
    """No program run from here on gains privileges by set-user-id or file capabilities."""

    kind = "no_new_privs"

    def describe(self) -> str:
        return "set no_new_privs"

    def by_hand(self) -> str:
        return "setpriv --no-new-privs"

    def run(self) -> None:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)


@dataclass(frozen=True, slots=True)
class SetUser(KernelStep):
    """Become the container's user; root keeps its capabilities, others lose them (exec does that)."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    kind = "setuid"

    def describe(self) -> str:
        return f"become user {self.uid}, group {self.gid}"

    def by_hand(self) -> str:
        return f"setpriv --reuid {self.uid} --regid {self.gid} --groups {','.join(map(str, self.groups)) or self.gid}"

    def run(self) -> None:
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


@dataclass(frozen=True, slots=True)
class SetRlimits(KernelStep):
    """Resource limits of the program (getrlimit(2))."""

    limits: tuple[tuple[str, int, int], ...]
    """(RLIMIT_NOFILE, soft, hard) each."""

    kind = "rlimit"

    def describe(self) -> str:
        return "set " + ", ".join(f"{name}={soft}:{hard}" for name, soft, hard in self.limits)

    def by_hand(self) -> str:
        return "prlimit " + " ".join(f"--{name[7:].lower()}={soft}:{hard}" for name, soft, hard in self.limits)

    def run(self) -> None:
        for name, soft, hard in self.limits:
            number = getattr(resource, name)
            try:
                resource.setrlimit(number, (soft, hard))
            except (ValueError, PermissionError):
                # Without CAP_SYS_RESOURCE no limit can be raised: as near to what is asked as it goes.
                highest = resource.getrlimit(number)[1]
                resource.setrlimit(number, (min(soft, highest), highest))


@dataclass(frozen=True, slots=True)
class SetOomScore(KernelStep):
    """Let no container be safer from the OOM killer than asked, whoever started it; it is never made more likely."""

    score: int
    kind = "oom_score_adj"

    def describe(self) -> str:
        return f"set oom_score_adj to at least {self.score}"

    def by_hand(self) -> str:
        return f"echo {self.score} > /proc/self/oom_score_adj"

    def run(self) -> None:
        fd = rooted.open_in_proc("self/oom_score_adj", os.O_RDWR)
        try:
            if int(os.read(fd, 16)) < self.score:
                os.pwrite(fd, str(self.score).encode(), 0)
        finally:
            os.close(fd)


_MAX_TABLE = 16 << 20
_MAX_GROUPS = 65536
"""NGROUPS_MAX of the kernel."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user as the container's own /etc/passwd and /etc/group have it."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def look_up(user: str) -> Account:
    """Find "uid", "uid:gid", "name" or "name:group" in /etc/passwd and /etc/group as seen from here.

    Runs after the pivot, so the files are the container's and no symlink of theirs leads out. Nothing of
    the image's is executed for it. Raises LookupError for a name that is not there.
    """
    wanted_user, _, wanted_group = user.partition(":")
    row = _find(_table("/etc/passwd", 7), wanted_user)
    uid = _number(row[2]) if row else _number(wanted_user)
    if uid is None:
        raise LookupError(f"no user {wanted_user!r} in the container's /etc/passwd")
    home = (row[5] if row else "") or "/"
    groups = _table("/etc/group", 4)
    if wanted_group:
        found = _find(groups, wanted_group)
        gid = _number(found[2]) if found else _number(wanted_group)
        if gid is None:
            raise LookupError(f"no group {wanted_group!r} in the container's /etc/group")
        return Account(uid, gid, (), home)
    gid = (_number(row[3]) if row else 0) or 0
    more = (_number(group[2]) for group in groups if row and row[0] in group[3].split(","))
    wanted = dict.fromkeys((gid, *(number for number in more if number is not None)))
    return Account(uid, gid, tuple(wanted)[:_MAX_GROUPS], home)


def _table(path: str, columns: int) -> list[list[str]]:
    """Return the rows of a file that other people wrote, each with so many columns or more; none if it is no file."""
    try:
        # A fifo must not hold us up, nor a device or an endless file be read.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return []
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        text = file.read(_MAX_TABLE).decode("utf-8", "replace")
    rows = (line.split(":") for line in text.split("\n") if line and not line.startswith("#"))
    return [row + [""] * (columns - len(row)) for row in rows if len(row) >= 3 and _number(row[2]) is not None]


def _find(table: list[list[str]], wanted: str) -> list[str] | None:
    named = next((row for row in table if row[0] == wanted), None)
    number = _number(wanted)
    if named is not None or number is None:
        return named
    return next((row for row in table if _number(row[2]) == number), None)


def _number(text: str) -> int | None:
    """Return a user's or group's number, None for what is none that the kernel has."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    number = int(text)
    return number if number < 2**32 - 1 else None
