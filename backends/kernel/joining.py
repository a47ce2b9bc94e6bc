"""Entering namespaces that exist: by path (config.json), or those of a live process (setns(2))."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from backends.errors import KernelRefused
from backends.kernel import linux
from backends.kernel.mounts import KernelStep
from backends.kernel.namespaces import FLAGS

_NS_GET_NSTYPE = 0xB703
FILES = {"mount": "mnt", "network": "net"}
"""Names below /proc/PID/ns that differ from those of the specification."""


def open_namespace(kind: str, path: str) -> int:
    """Open a namespace file after checking that it is one, and of that type; the caller closes it.

    Raises KernelRefused.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KernelRefused(f"join the {kind} namespace {path}", error) from error
    try:
        if fcntl.ioctl(fd, _NS_GET_NSTYPE) == FLAGS[kind]:
            return fd
        found = OSError(errno.EINVAL, "it is a namespace of another type")
    except OSError as error:
        found = OSError(error.errno, "it is no namespace")
    os.close(fd)
    raise KernelRefused(f"join the {kind} namespace {path}", found)


@dataclass(frozen=True, slots=True)
class JoinNamespaces(KernelStep):
    """Enter namespaces given by path; a fork is needed for those of pid and time."""

    joined: tuple[tuple[str, str, int], ...]
    """(type, path, descriptor) each."""

    kind = "setns"

    def describe(self) -> str:
        return "join " + ", ".join(f"the {kind} namespace {path}" for kind, path, _ in self.joined)

    def by_hand(self) -> str:
        options = (f"--{FILES.get(kind, kind)}={path}" for kind, path, _ in self.joined)
        return "nsenter " + " ".join(options)

    def run(self) -> None:
        fds = {kind: fd for kind, _, fd in self.joined}
        join_in_order(fds, lambda kind: linux.setns(fds[kind], FLAGS[kind]))
        for fd in fds.values():
            os.close(fd)


def join_process(pidfd: int, kinds: Iterable[str]) -> None:
    """Enter the namespaces of the process that pidfd refers to. Raises ProcessLookupError if it has ended."""
    join_in_order(kinds, lambda kind: linux.setns(pidfd, FLAGS[kind]))


def join_in_order(kinds: Iterable[str], enter: Callable[[str], None]) -> None:
    """Enter what can be entered with our present rights, then the user namespace, then what only it opens.

    A container may have a network namespace of the host's and a user namespace of its own, or own all of
    them: neither order does for both. The mount namespace comes last, since it changes what paths mean.
    Inside a user namespace we are its root.
    """
    left = sorted((kind for kind in kinds if kind != "user"), key=lambda kind: kind == "mount")
    has_user = "user" in kinds
    left = _enter_each(left, enter, allow_refusal=has_user)
    if has_user:
        enter("user")
        become_root()
        # A change of user may have made our memory readable to that user again (fs.suid_dumpable).
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        _enter_each(left, enter, allow_refusal=False)


def _enter_each(kinds: list[str], enter: Callable[[str], None], *, allow_refusal: bool) -> list[str]:
    refused = []
    for kind in kinds:
        try:
            enter(kind)
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise
            if error.errno != errno.EPERM or not allow_refusal:
                raise KernelRefused(f"join the container's {kind} namespace", error) from error
            refused.append(kind)
    return refused


def become_root(*, keep_groups: bool = False) -> None:
    """Become user and group 0 of the user namespace we are in, with no other groups where that is allowed."""
    os.setresgid(0, 0, 0)
    if not keep_groups:
        with suppress(PermissionError):  # "deny" in /proc/self/setgroups
            os.setgroups(())
    os.setresuid(0, 0, 0)
