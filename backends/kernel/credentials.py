"""Who the program is: its user, working directory, resource limits, as steps (credentials(7)).

These act on the calling thread only and run in the container's init, which has one thread.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from backends.kernel import linux, process_calls, rooted
from backends.kernel.account import Account as Account
from backends.kernel.account import look_up as look_up
from backends.kernel.capability import CAPABILITIES as CAPABILITIES
from backends.kernel.capability import DEFAULT_CAPABILITIES as DEFAULT_CAPABILITIES
from backends.kernel.capability import DropBounding as DropBounding
from backends.kernel.capability import SetCapabilities as SetCapabilities
from backends.kernel.capability import mask_of as mask_of
from backends.kernel.capability import names_of as names_of
from backends.kernel.mounts import KernelStep


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
    groups: tuple[int, ...] | None = ()
    """None: those that the process has already stay."""

    kind = "setuid"

    def describe(self) -> str:
        return f"become user {self.uid}, group {self.gid}"

    def by_hand(self) -> str:
        groups = "--keep-groups" if self.groups is None else f"--groups {','.join(map(str, self.groups)) or self.gid}"
        return f"setpriv --reuid {self.uid} --regid {self.gid} {groups}"

    def run(self) -> None:
        try:
            if self.groups is not None:
                os.setgroups(self.groups)
        except PermissionError:
            if not _groups_are_denied():
                raise
        for name, number, call in (("gid", self.gid, os.setresgid), ("uid", self.uid, os.setresuid)):
            try:
                call(number, number, number)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                text = f"cannot set{name} to unmapped {name} {number} in user namespace"
                raise OSError(errno.EINVAL, text) from None


def _groups_are_denied() -> bool:
    """Say whether this user namespace was made by a plain user, for whom the kernel forbids setgroups(2) for ever."""
    fd = rooted.open_in_proc("self/setgroups", os.O_RDONLY)
    try:
        return os.read(fd, 16).strip() == b"deny"
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class OwnStdio(KernelStep):
    """Let the program's user own its standard streams, so that it can open them again (/dev/stdout)."""

    uid: int
    kind = "chown"

    def describe(self) -> str:
        return f"give the standard streams to user {self.uid}"

    def run(self) -> None:
        for fd in range(3):
            try:
                found = os.fstat(fd)
                if found.st_uid != self.uid and found.st_rdev != os.makedev(1, 3):
                    os.fchown(fd, self.uid, -1)
            except OSError as error:
                # Closed; read-only; or of an owner that this user namespace does not know: left alone, as runc does.
                if error.errno not in (errno.EBADF, errno.EPERM, errno.EROFS, errno.EINVAL):
                    raise


@dataclass(frozen=True, slots=True)
class EnterDirectory(KernelStep):
    """Change to the program's working directory; before the user changes, a folder that only he may enter can wait."""

    path: str
    is_last_try: bool = False
    kind = "chdir"

    def describe(self) -> str:
        return f"change to {self.path}"

    def by_hand(self) -> str:
        return f"cd {self.path}"

    def run(self) -> None:
        try:
            os.chdir(self.path)
        except PermissionError as error:
            if self.is_last_try:
                raise self._failed(error) from error
        except OSError as error:
            raise self._failed(error) from error
        if self.is_last_try:
            self._verify()

    def _failed(self, error: OSError) -> OSError:
        said = (error.strerror or str(error)).lower()
        return OSError(error.errno, f'chdir to cwd ("{self.path}") set in config.json failed: {said}')

    def _verify(self) -> None:
        """Refuse a folder outside the container's root, as /proc/self/fd/N can be (CVE-2024-21626)."""
        text = "current working directory is outside of container mount namespace root"
        try:
            is_inside = os.getcwd().startswith("/")
        except PermissionError:  # its own filter forbids getcwd(2)
            is_inside = os.readlink("/proc/self/cwd").startswith("/")
        except FileNotFoundError:
            is_inside = False
        if not is_inside:
            raise OSError(errno.ENOENT, f"{text} -- possible container breakout detected")


_RLIMIT_NAMES = "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"
RLIMITS = tuple(f"RLIMIT_{name}" for name in _RLIMIT_NAMES.split())
"""By number on x86 and ARM (asm-generic/resource.h)."""


@dataclass(frozen=True, slots=True)
class SetRlimits(KernelStep):
    """Resource limits of the program (getrlimit(2)); must come before privileges are dropped."""

    limits: tuple[tuple[str, int, int], ...]
    """(RLIMIT_NOFILE, soft, hard) each; 2**64-1 is no limit."""

    kind = "rlimit"

    def describe(self) -> str:
        return "set " + ", ".join(f"{name}={soft}:{hard}" for name, soft, hard in self.limits)

    def by_hand(self) -> str:
        return "prlimit " + " ".join(f"--{name[7:].lower()}={soft}:{hard}" for name, soft, hard in self.limits)

    def run(self) -> None:
        for name, soft, hard in self.limits:
            _set_limit(0, name, soft, hard)


@dataclass(frozen=True, slots=True)
class RaiseRlimits(KernelStep):
    """Lift hard limits of a process in a user namespace, which may not do so itself; it sets its own afterwards."""

    pid: int
    limits: tuple[tuple[str, int, int], ...]
    kind = "rlimit"

    def describe(self) -> str:
        return "allow " + ", ".join(f"{name}={hard}" for name, _, hard in self.limits)

    def by_hand(self) -> str:
        return f"prlimit --pid {self.pid} " + " ".join(f"--{name[7:].lower()}=:{hard}" for name, _, hard in self.limits)

    def run(self) -> None:
        for name, _, hard in self.limits:
            soft, has = process_calls.prlimit(self.pid, RLIMITS.index(name))
            if has < hard:
                _set_limit(self.pid, name, soft, hard)


def _set_limit(pid: int, name: str, soft: int, hard: int) -> None:
    number = RLIMITS.index(name)
    try:
        process_calls.prlimit(pid, number, (soft, hard))
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        if error.errno == errno.EPERM:
            has = process_calls.prlimit(pid, number)[1]
            said += f" ({name} {hard} is above the hard limit {has}, which only CAP_SYS_RESOURCE can raise)"
        raise OSError(
            error.errno, f"error setting rlimits for ready process: error setting rlimit type {number}: {said}"
        ) from error


@dataclass(frozen=True, slots=True)
class SetOomScore(KernelStep):
    """How soon the OOM killer takes a process (proc_pid_oom_score_adj(5))."""

    score: int
    pid: int = 0
    """0: this process."""

    kind = "oom_score_adj"

    def describe(self) -> str:
        return f"set oom_score_adj to {self.score}"

    def by_hand(self) -> str:
        return f"echo {self.score} > /proc/{self.pid or 'self'}/oom_score_adj"

    def run(self) -> None:
        fd = rooted.open_in_proc(f"{self.pid or 'self'}/oom_score_adj", os.O_RDWR)
        try:
            if int(os.read(fd, 16)) != self.score:
                os.pwrite(fd, str(self.score).encode(), 0)
        except PermissionError as error:
            text = f"{error.strerror}: lowering it needs CAP_SYS_RESOURCE"
            raise OSError(error.errno, text) from error
        finally:
            os.close(fd)
