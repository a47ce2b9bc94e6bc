"""Control groups: one interface over v2, v1 and hybrid hosts.

::

    host = detect()
    group = host.group("innkeeper/4f3a")
    recorder.run_all([*group.create_steps(), *group.limit_steps(Limits(cpus=0.5))])
    group.enter(pid)
    reader = group.reader(); reader.read(time.monotonic())
    group.kill(); group.remove()

Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/*.rst. On a hybrid
host a group is made in each v1 hierarchy for the limits, and in the v2 one for what only that has: pressure
per group, cgroup.kill and cgroup.freeze, none of which needs a controller.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Literal

from backends.errors import Unsupported, UsageError
from backends.kernel import cgroup1, cgroup2, cgroup_values
from backends.kernel.cgroup_file import GuestVanished, parse_amount, parse_keyed, read_text
from backends.kernel.cgroup_hierarchy import Hierarchy, mounted, parse_proc_cgroup, path_in
from backends.kernel.cgroup_reader import CgroupReader, files_of, raise_file_limit
from backends.kernel.cgroup_steps import (
    AttachProcess,
    HandDown,
    MakeCgroup,
    WriteFile,
    remove_directory,
)
from backends.kernel.cgroup_support import FIELDS_OF, caveats, reasons
from backends.kernel.cgroup_tasks import CgroupTasks
from backends.model import Limits
from backends.trace import Step

__all__ = [
    "AttachProcess",
    "Cgroup",
    "CgroupHost",
    "CgroupReader",
    "GuestVanished",
    "HandDown",
    "MakeCgroup",
    "WriteFile",
    "detect",
    "raise_file_limit",
]

_DIALECTS: dict[int, ModuleType] = {1: cgroup1, 2: cgroup2}
Mode = Literal["v2", "hybrid", "v1"]


def detect(mountinfo: str | None = None) -> CgroupHost:
    """Return what this process's mount table says of cgroups. Raises Unsupported if there are none."""
    if mountinfo is None:
        mountinfo = read_text("/proc/self/mountinfo") or ""
    hierarchies = mounted(mountinfo)
    if not hierarchies:
        raise Unsupported("this system has no control groups mounted", hint="mount -t cgroup2 none /sys/fs/cgroup")
    return CgroupHost(hierarchies)


class CgroupHost:
    """The cgroup hierarchies of this host."""

    mode: Mode
    """v2 alone, v1 alone, or hybrid: both."""

    controllers: frozenset[str]
    """Those that can be used here, each in the one hierarchy it is bound to; v1's blkio is named so."""

    def __init__(self, hierarchies: tuple[Hierarchy, ...]) -> None:
        self.hierarchies = hierarchies
        self.unified = next((h for h in hierarchies if h.version == 2), None)
        has_v1 = any(h.version == 1 and not _is_named(h) for h in hierarchies)
        self.mode = "v1" if self.unified is None else "hybrid" if has_v1 else "v2"
        self.controllers = frozenset().union(*(h.controllers for h in hierarchies))

    def hierarchy(self, controller: str) -> Hierarchy | None:
        """Return where a controller lives ("io" is v1's blkio too); None if this host has it nowhere."""
        names = {controller, "blkio"} if controller == "io" else {controller}
        return next((h for h in self.hierarchies if h.controllers & names), None)

    def group(self, path: str) -> Cgroup:
        """Return the group of that name below the top of every hierarchy, whether it exists or not."""
        parts = path.strip("/").split("/")
        if path.startswith("/") or any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise UsageError(f"{path!r} is no name for a control group")
        clean = "/".join(parts)
        return Cgroup(self, clean, {h.mount: h.directory(clean) for h in self.hierarchies})

    def top(self) -> Cgroup:
        """Return the top group of every hierarchy, which is nobody's own."""
        return Cgroup(self, "", {h.mount: h.directory("") for h in self.hierarchies})

    def group_of(self, pid: int, *, adjust: Callable[[str], str] = lambda path: path) -> Cgroup:
        """Return the group a process is in, which may have another path in each hierarchy.

        `adjust` maps each path to the one wanted, for example to the group above of one that libvirt splits.
        Raises GuestVanished if there is no such process.
        """
        text = read_text(f"/proc/{pid}/cgroup")
        if text is None:
            raise GuestVanished(f"cannot find the group of process {pid}: it has gone")
        groups = parse_proc_cgroup(text)
        directories, shown = {}, ""
        for h in self.hierarchies:
            path = path_in(h, groups)
            if path is not None:
                relative = adjust(h.relative(path)).strip("/")
                directories[h.mount] = h.directory(relative)
                shown = max(shown, relative, key=len)
        return Cgroup(self, shown, directories)

    def reasons(self) -> Mapping[str, str]:
        """Map each field of Limits to "" if it can be set here, else to why not."""
        return reasons(self.hierarchy)

    def caveats(self) -> Mapping[str, str]:
        """Map fields of Limits that can be set, but do less here than one would think, to a sentence on it."""
        return caveats(self.hierarchy)


def _is_named(hierarchy: Hierarchy) -> bool:
    return all(name.startswith("name=") for name in hierarchy.controllers)


class Cgroup(CgroupTasks):
    """One guest's control group: a folder in each hierarchy, handled as one thing.

    What it does to its processes (procs, kill, freeze, thaw …) is in CgroupTasks.
    """

    def __init__(self, host: CgroupHost, path: str, directories: Mapping[str, str]) -> None:
        self.host = host
        unified = directories.get(host.unified.mount) if host.unified else None
        freezer = next((directories.get(h.mount) for h in host.hierarchies if "freezer" in h.controllers), None)
        super().__init__(path, directories, unified, freezer)

    def __repr__(self) -> str:
        return f"Cgroup({self.path!r})"

    # ── where things are ────────────────────────────────────────────────────────────────────────────

    def directory(self, controller: str) -> str | None:
        """Return the folder that holds a controller's files ("memory", "io", "devices" …); None if nowhere."""
        hierarchy = self.host.hierarchy(controller)
        return None if hierarchy is None else self.directories.get(hierarchy.mount)

    def seat(self, controller: str) -> tuple[int, str] | None:
        """Return (version, folder) of a controller; None if this host or this group has it nowhere."""
        return self._seats(controller).get(controller)

    def below(self, path: str) -> Cgroup:
        """Return the group of that relative path below it, whether it exists or not; itself for "" and "."."""
        if path in ("", "."):
            return self
        folders = {mount: os.path.join(directory, path) for mount, directory in self.directories.items()}
        return Cgroup(self.host, os.path.join(self.path, path), folders)

    def _seats(self, *controllers: str) -> dict[str, tuple[int, str]]:
        """Map controllers that this host has to (version, folder)."""
        seats = {}
        for name in controllers:
            hierarchy = self.host.hierarchy(name)
            if hierarchy is not None and hierarchy.mount in self.directories:
                seats[name] = (hierarchy.version, self.directories[hierarchy.mount])
        return seats

    def children(self) -> list[str]:
        """Return the names of the groups right below it, in any hierarchy."""
        names: set[str] = set()
        for directory in self.directories.values():
            with suppress(FileNotFoundError), os.scandir(directory) as entries:
                names.update(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        return sorted(names)

    # ── making, entering, removing ──────────────────────────────────────────────────────────────────

    def create_steps(self, also: Collection[str] = ()) -> list[Step]:
        """Return the steps that make it in every hierarchy; their undo() removes what they made.

        `also` names controllers to have besides those that Limits need, where they are in the v2 tree.

        v2 (cgroup-v2.rst, "Top-down Constraint"): each group above must hand the controllers down first.
        v1 cpuset (cpusets.rst): CPUs and memory nodes are copied down, else no process may enter.
        """
        steps: list[Step] = []
        for h in self.host.hierarchies:
            directory = self.directories.get(h.mount)
            if directory is None or directory == h.mount:
                continue
            handed = (*h.used_v2, *(name for name in also if h.version == 2 and name in h.controllers))
            if handed:
                steps += _v2_create_steps(h, directory, handed)
            else:
                steps.append(MakeCgroup(directory, h.mount, is_v1_cpuset=h.version == 1 and "cpuset" in h.controllers))
        return steps

    def enter(self, pid: int) -> None:
        """Put a process (0: this one) into it in all hierarchies. Raises ProcessLookupError, KernelRefused."""
        for step in self.enter_steps(pid):
            step.run()

    def enter_steps(self, pid: int) -> list[Step]:
        """Return the steps of enter(), one a hierarchy."""
        return [AttachProcess(directory, pid) for directory in self.directories.values()]

    def remove(self, timeout_s: float = 5.0) -> None:
        """Remove it and the groups below it from every hierarchy; no error if it is gone.

        Raises KernelRefused (EBUSY) while processes are in it.
        """
        if any(directory == mount for mount, directory in self.directories.items()):
            raise UsageError("the top group of a hierarchy cannot be removed")
        for directory in self.directories.values():
            remove_directory(directory, timeout_s=timeout_s)

    def remove_if_unused(self) -> bool:
        """Remove it where it has neither processes nor groups below; True if nothing of it is left."""
        for directory in self.directories.values():
            with suppress(OSError):
                os.rmdir(directory)
        return not self.exists()

    # ── limits and counters ─────────────────────────────────────────────────────────────────────────

    def limit_steps(self, wanted: Limits, current: Limits | None = None) -> list[Step]:
        """Return the writes that turn the current limits into the wanted ones, in an order the kernel takes.

        Current limits are read from the kernel if not given; a group not made yet has none. Network fields
        are not a cgroup's and are passed over. Raises UsageError for values no kernel takes, Unsupported for
        fields this host cannot limit. Each step's undo() writes back the old text.
        """
        if current is None:
            current = self.limits() if self.exists() else Limits()
        if wanted == current:
            return []
        self._check(wanted, current)
        steps: list[Step] = []
        for name, (version, directory) in self._seats("cpu", "cpuset", "memory", "pids").items():
            steps += getattr(_DIALECTS[version], f"{name}_steps")(directory, wanted, current)
        for version, directory in self._seats("io").values():
            tables = cgroup_values.io_table(wanted), cgroup_values.io_table(current)
            steps += _DIALECTS[version].io_steps(directory, *tables)
        return steps

    def _check(self, wanted: Limits, current: Limits) -> None:
        cpus = cgroup_values.parse_cpu_list(read_text("/sys/devices/system/cpu/online") or "")
        cgroup_values.check(wanted, cpus)
        why = self.host.reasons()
        for controller, names in FIELDS_OF.items():
            for name in names if controller != "net" else ():
                new = getattr(wanted, name)
                if new != getattr(current, name) and new not in (None, ()) and why[name]:
                    raise Unsupported(f"{name} cannot be limited here: {why[name]}")

    def limits(self) -> Limits:
        """Return the limits as the kernel has them now; without network. Raises GuestVanished."""
        if not self.exists():
            raise GuestVanished(f"cannot read limits of {self.path}: the group is gone")
        found = Limits()
        for name, (version, directory) in self._seats("cpu", "cpuset", "memory", "pids").items():
            found = replace(found, **getattr(_DIALECTS[version], f"read_{name}")(directory))
        for version, directory in self._seats("io").values():
            table = _DIALECTS[version].read_io(directory)
            found = cgroup_values.merge_io(found, cgroup_values.io_limits(table))
        return found

    def oom_kills(self) -> int | None:
        """Return how many of its processes the OOM killer took; None where the kernel does not count them.

        memory.events (v2), memory.oom_control (v1, since Linux 4.13).
        """
        for version, directory in self._seats("memory").values():
            name = "memory.events" if version == 2 else "memory.oom_control"
            return parse_amount(parse_keyed(read_text(f"{directory}/{name}")).get("oom_kill"))
        return None

    def reader(self) -> CgroupReader:
        """Return a reader of its counters; the caller closes it. Raises GuestVanished."""
        seats = self._seats("cpuacct", "cpu", "memory", "io", "pids")
        return CgroupReader(self.path, files_of(seats, self.unified))


def _v2_create_steps(hierarchy: Hierarchy, directory: str, controllers: tuple[str, ...]) -> list[Step]:
    """Top-down: hand down, make, hand down, make; the leaf hands nothing down, it holds processes."""
    steps: list[Step] = []
    level = hierarchy.mount
    for name in os.path.relpath(directory, hierarchy.mount).split("/"):
        steps.append(HandDown(level, controllers))
        level = os.path.join(level, name)
        steps.append(MakeCgroup(level, hierarchy.mount))
    return steps
