"""Namespaces as steps (namespaces(7)), and joining those of a live guest."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass

from backends.kernel import linux, rooted
from backends.kernel.mounts import KernelStep

FLAGS = {
    "mount": linux.CLONE_NEWNS,
    "pid": linux.CLONE_NEWPID,
    "network": linux.CLONE_NEWNET,
    "ipc": linux.CLONE_NEWIPC,
    "uts": linux.CLONE_NEWUTS,
    "cgroup": linux.CLONE_NEWCGROUP,
    "user": linux.CLONE_NEWUSER,
    "time": linux.CLONE_NEWTIME,
}
"""Namespace types by their names in the OCI runtime specification."""

FILES = {"mount": "mnt", "network": "net"}
"""Names below /proc/PID/ns that differ from those of the specification."""

_UNSHARE_OPTION = dict(zip(FLAGS, "mpniuCUT", strict=True))


@dataclass(frozen=True, slots=True)
class Unshare(KernelStep):
    """Leave the host's namespaces of the given types for new ones."""

    types: tuple[str, ...]
    kind = "unshare"

    def describe(self) -> str:
        return "new namespaces: " + ", ".join(self.types)

    def by_hand(self) -> str:
        return "unshare -" + "".join(_UNSHARE_OPTION[name] for name in self.types)

    def run(self) -> None:
        flags = 0
        for name in self.types:
            flags |= FLAGS[name]
        try:
            linux.unshare(flags)
        except OSError as error:
            raise OSError(error.errno, _why_not(self.types, error)) from error


def _why_not(types: tuple[str, ...], error: OSError) -> str:
    """Say what stands behind the few numbers with which the kernel refuses namespaces."""
    said = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        names = " or ".join(f"user.max_{FILES.get(name, name)}_namespaces" for name in types)
        return f"{said}: this user has as many namespaces as the kernel allows ({names})"
    if error.errno in (errno.EPERM, errno.EACCES) and "user" in types:
        for knob in ("kernel/unprivileged_userns_clone", "kernel/apparmor_restrict_unprivileged_userns"):
            try:
                with open(f"/proc/sys/{knob}") as file:
                    is_open = file.read().strip() == ("1" if knob.endswith("clone") else "0")
            except OSError:
                continue
            if not is_open:
                return f"{said}: the host forbids user namespaces to plain users ({knob.replace('/', '.')})"
    if error.errno == errno.EINVAL:
        return f"{said}: the kernel lacks namespaces of these types: {', '.join(types)}"
    return said


@dataclass(frozen=True, slots=True)
class SetHostname(KernelStep):
    """Name the container's uts namespace."""

    hostname: str
    kind = "sethostname"

    def describe(self) -> str:
        return f"set the host name to {self.hostname}"

    def by_hand(self) -> str:
        return f"hostname {self.hostname}"

    def run(self) -> None:
        socket.sethostname(self.hostname)


@dataclass(frozen=True, slots=True)
class SetDomainname(KernelStep):
    """Give the container's uts namespace an NIS domain name."""

    domainname: str
    kind = "setdomainname"

    def describe(self) -> str:
        return f"set the domain name to {self.domainname}"

    def by_hand(self) -> str:
        return f"domainname {self.domainname}"

    def run(self) -> None:
        linux.setdomainname(self.domainname)


@dataclass(frozen=True, slots=True)
class JoinSessionKeyring(KernelStep):
    """Leave the caller's session keyring for a new one, so that its keys are out of reach (keyrings(7))."""

    name: str
    kind = "keyctl"

    def describe(self) -> str:
        return f"new session keyring {self.name}"

    def run(self) -> None:
        try:
            linux.keyctl_join_session_keyring(self.name)
        except OSError as error:
            if error.errno != 38:  # ENOSYS: a kernel without keyrings has no keys to protect
                raise


@dataclass(frozen=True, slots=True)
class WriteSysctls(KernelStep):
    """Set kernel parameters that belong to the container's own namespaces. Runs after the pivot."""

    values: tuple[tuple[str, str], ...]
    kind = "sysctl"

    def describe(self) -> str:
        return "set " + ", ".join(f"{name}={value}" for name, value in self.values)

    def by_hand(self) -> str:
        return "sysctl -w " + " ".join(f"{name}={value}" for name, value in self.values)

    def run(self) -> None:
        for name, value in self.values:
            fd = rooted.open_in_proc(sysctl_path(name), os.O_WRONLY)
            try:
                os.write(fd, value.encode())
            except OSError as error:
                said = os.strerror(error.errno or 0)
                raise OSError(error.errno, f"cannot set {name} to {value[:80]!r}: {said}") from error
            finally:
                os.close(fd)


def sysctl_path(name: str) -> str:
    """Return a kernel parameter's place below /proc; sysctl(8) reads "net.ipv4.conf.eth0/1.mtu" as of eth0.1."""
    dot, slash = name.find("."), name.find("/")
    if slash < 0 or 0 <= dot < slash:
        name = name.translate(str.maketrans("./", "/."))
    return f"sys/{name}"


def join_all(pidfd: int, types: tuple[str, ...]) -> None:
    """Enter the namespaces of the process that pidfd refers to; a fork is needed for the pid namespace."""
    flags = 0
    for name in types:
        flags |= FLAGS[name]
    linux.setns(pidfd, flags)
