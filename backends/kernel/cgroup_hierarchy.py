"""Which cgroup hierarchies this host has mounted, and which controller lives in which.

cgroup v1 mounts one tree per controller (or set of controllers), v2 one tree for all; on a hybrid host a
controller is bound to one of them at a time (cgroup-v2.rst, "Mounting"; cgroup-v1/cgroups.rst).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from backends.kernel.cgroup_file import read_text
from backends.kernel.mountinfo import unescaped

_V1_USED = frozenset(
    {"cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "freezer", "devices", "name=systemd"}
    | {"hugetlb", "net_cls", "net_prio", "perf_event", "rdma", "misc"}
)
"""v1 trees that a guest gets a group in. name=systemd among them: where systemd sees a v1 host, it would else
take a guest's processes for part of the login session that started them, and end them with it."""

_V2_USED = ("cpuset", "cpu", "io", "memory", "pids")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup tree."""

    version: int
    """1 or 2."""

    mount: str
    """Where it is mounted."""

    root: str
    """The group that is seen at the mount, as /proc/PID/cgroup counts: "/" but for containers and bind mounts."""

    controllers: frozenset[str]
    """v1: its controllers, or "name=…"; v2: those that its top group can hand down."""

    def directory(self, path: str) -> str:
        """Return the folder of a group given relative to the top of this hierarchy."""
        return os.path.join(self.mount, path) if path else self.mount

    def relative(self, path: str) -> str:
        """Turn a path from /proc/PID/cgroup into one relative to the mount."""
        inside = path.removeprefix(self.root) if self.root != "/" and _is_below(path, self.root) else path
        return inside.strip("/")

    @property
    def used_v2(self) -> tuple[str, ...]:
        """The v2 controllers that limits need, of those it has."""
        return tuple(name for name in _V2_USED if name in self.controllers) if self.version == 2 else ()


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root + "/")


def mounted(mountinfo: str) -> tuple[Hierarchy, ...]:
    """Return the hierarchies in the text of /proc/PID/mountinfo that guests are put into, each once.

    A tree that is mounted several times is taken where /sys/fs/cgroup has it, else where it comes first.
    """
    found: dict[frozenset[str] | str, Hierarchy] = {}
    for candidate in sorted(_candidates(mountinfo), key=lambda h: not h.mount.startswith("/sys/fs/cgroup")):
        found.setdefault("v2" if candidate.version == 2 else candidate.controllers, candidate)
    return tuple(found.values())


def _candidates(mountinfo: str) -> Iterator[Hierarchy]:
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields, words = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(words) < 3:
            continue
        root, mount = unescaped(fields[3]), unescaped(fields[4])
        if words[0] == "cgroup2":
            listed = (read_text(f"{mount}/cgroup.controllers") or "").split()
            yield Hierarchy(2, mount, root, frozenset(listed))
        elif words[0] == "cgroup":
            used = _V1_USED.intersection(words[2].split(","))
            if used:
                yield Hierarchy(1, mount, root, used)


def parse_proc_cgroup(text: str) -> dict[frozenset[str] | str, str]:
    """Parse /proc/PID/cgroup: controllers ("v2" for the unified tree) → path of the process's group."""
    found: dict[frozenset[str] | str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        names, separator, path = rest.partition(":")
        if separator:
            path = path.removesuffix(" (deleted)")
            found["v2" if number == "0" and not names else frozenset(names.split(","))] = path
    return found


def path_in(hierarchy: Hierarchy, groups: dict[frozenset[str] | str, str]) -> str | None:
    """Return the path in this hierarchy from what parse_proc_cgroup gave.

    None if it is not listed, or lies outside this process's cgroup namespace ("/../other").
    """
    for names, path in groups.items():
        is_it = hierarchy.version == 2 if isinstance(names, str) else bool(names & hierarchy.controllers)
        if is_it:
            return None if path.startswith("/..") else path
    return None
