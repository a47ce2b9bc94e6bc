"""The process between the runtime and a container's init: it enters namespaces, old and new, and forks init.

unshare(2) and setns(2) of a pid or time namespace take effect for children only, hence the second fork. The
stage then ends, and init is adopted by the nearest subreaper above.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from backends.errors import InnkeeperError
from backends.kernel import joining, linux
from backends.kernel.cgroup_entrance import Entrance
from backends.kernel.joining import JoinNamespaces
from backends.kernel.namespaces import Unshare
from backends.kernel.title import hide_arguments
from backends.oci import messages, process
from backends.oci.messages import StepRunner
from backends.trace import Step


@dataclass(frozen=True, slots=True)
class Namespaces:
    """The namespaces of a container: some new, some of others; what is in neither is shared with the runtime."""

    new: frozenset[str]
    paths: Mapping[str, str]
    keeps_groups: bool = False
    """Whether root of a new user namespace stays in the runtime's groups, mapped or not."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Namespaces:
        """Return what `linux.namespaces` asks for."""
        entries = (config.get("linux") or {}).get("namespaces") or ()
        paths = {entry["type"]: entry["path"] for entry in entries if entry.get("path")}
        new = frozenset(entry["type"] for entry in entries) - paths.keys()
        return cls(new, paths, process.keeps_groups(config))

    def __contains__(self, kind: str) -> bool:
        return kind in self.new or kind in self.paths

    def join_steps(self, fds: Mapping[str, int]) -> list[Step]:
        """Return what enters those of others; fds come from open()."""
        joined = tuple((kind, path, fds.get(kind, -1)) for kind, path in self.paths.items())
        return [JoinNamespaces(joined)] if joined else []

    def user_steps(self) -> list[Step]:
        """Return what makes a new user namespace, which comes first: it owns all that are made after it."""
        return [Unshare(("user",))] if "user" in self.new else []

    def new_steps(self) -> list[Step]:
        """Return what makes the rest; that of cgroups comes when init is in its own group."""
        rest = self.new_types()
        return [Unshare(rest)] if rest else []

    def new_types(self) -> tuple[str, ...]:
        """Return the types of those that new_steps makes."""
        return tuple(kind for kind in _ORDER if kind in self.new)

    def open(self) -> dict[str, int]:
        """Open those of others, as the runtime sees their paths; the caller closes them. Raises InnkeeperError."""
        fds: dict[str, int] = {}
        try:
            for kind, path in self.paths.items():
                fds[kind] = joining.open_namespace(kind, path)
        except InnkeeperError:
            for fd in fds.values():
                os.close(fd)
            raise
        return fds


TITLE = "inn-init"
"""What ps shows of a container's process that has not become its program yet."""

Become = Callable[[Entrance | None], None]
"""What init does: it never comes back. Gets the way into its group."""

_ORDER = ("mount", "pid", "network", "ipc", "uts", "time")


def run(
    namespaces: Namespaces,
    fds: Mapping[str, int],
    sync: socket.socket,
    become: Become,
    *,
    has_offsets: bool,
    group: str | None,
    may_be_born: bool,
    is_traced: bool,
) -> None:
    """Run in a fork of the runtime. Comes back in the stage when init has been forked; init never does.

    group is the path of init's control group, into which it is born where that may be; the stage, which has no
    part in the container's limits, never is in it.
    """
    runner = StepRunner("stage", sync, is_traced=is_traced)
    try:
        hide()
        runner.run_all(namespaces.join_steps(fds))
        if "user" in namespaces.new:
            runner.run_all(namespaces.user_steps())
            _be_mapped(sync, keep_groups=namespaces.keeps_groups)
        runner.run_all(namespaces.new_steps())
        if has_offsets:
            _ask(sync, "offsets")
        entrance = None if group is None else _entrance(sync, group)
        runner.flush()
        # Nobody is born in a group of which his user namespace has no say, or out of sight of his cgroup namespace;
        # and a birth that the kernel refuses would leave a new pid namespace without a first process, for good.
        may_be_born = may_be_born and "user" not in namespaces and "cgroup" not in namespaces.paths
        pid = entrance.fork() if entrance is not None and may_be_born else os.fork()
        if pid == 0:
            become(entrance)
            os._exit(125)
        messages.send(sync, {"pid": pid})
    except Exception as error:  # the end of a forked process
        runner.report(error)


def hide() -> None:
    """In a fork of the runtime that is to enter a container: be out of sight of who is in there.

    Nobody shall trace us, read our memory, open our binary (CVE-2019-5736), or see what the runtime was called with.
    """
    signal.set_wakeup_fd(-1)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    hide_arguments(TITLE)


def _be_mapped(sync: socket.socket, *, keep_groups: bool) -> None:
    # Dumpable for that moment: else our files in /proc belong to root, and a rootless runtime cannot write them.
    linux.prctl(linux.PR_SET_DUMPABLE, 1)
    _ask(sync, "maps")
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    joining.become_root(keep_groups=keep_groups)


def _entrance(sync: socket.socket, path: str) -> Entrance:
    """Ask the runtime, which makes the group meanwhile, for its open files."""
    messages.send(sync, {"need": "group"})
    message, fds = messages.receive(sync)
    return Entrance.received(path, fds, has_v2=message["has_v2"])


def _ask(sync: socket.socket, what: str) -> None:
    messages.send(sync, {"need": what})
    messages.receive(sync)
