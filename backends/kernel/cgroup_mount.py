"""The container's own view of its cgroups, as a step (cgroup_namespaces(7))."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from backends.kernel import linux, mount_options, rooted
from backends.kernel import mount_calls as calls
from backends.kernel.mount_in_root import set_bind_attributes
from backends.kernel.mount_options import MountOptions
from backends.kernel.mountinfo import MountEntry, read_mountinfo
from backends.kernel.mounts import KernelStep, MountFailed, said

_FLAGS = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_ATTRIBUTES = calls.MOUNT_ATTR_NOSUID | calls.MOUNT_ATTR_NODEV | calls.MOUNT_ATTR_NOEXEC
_REFUSED = (errno.EPERM, errno.EBUSY)
"""What the kernel says in a user namespace that does not own the cgroup namespace."""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class MountCgroups(KernelStep):
    """Show a container the hierarchies of the host: as its cgroup namespace has them, else its own groups, bound.

    Runs when the process is in its cgroup and, if it gets one, in its cgroup namespace.
    """

    root: str
    mode: str
    """ "v2", "hybrid" or "v1"; a hybrid host's unified tree is not shown, as with other runtimes."""

    destination: str = "/sys/fs/cgroup"
    options: tuple[str, ...] = ("nosuid", "noexec", "nodev", "relatime", "ro")
    in_namespace: bool = True
    """Whether the container has a cgroup namespace of its own."""

    group_paths: Mapping[str, str] = field(default_factory=dict)
    """Mount point of a hierarchy on the host → the container's folder in it."""

    kind = "mount"

    def describe(self) -> str:
        how = "read-only" if "ro" in self.options else "read-write"
        return f"mount the cgroup tree ({self.mode}) {how} on {self.destination}"

    def by_hand(self) -> str:
        options = ",".join(self.options)
        if self.mode == "v2":
            return f"mount -t cgroup2 -o {options} cgroup2 {self.root}{self.destination}"
        place = f"{self.root}{self.destination}"
        return f"mount -t tmpfs tmpfs {place}; mount -t cgroup -o {options},memory cgroup {place}/memory; …"

    def run(self) -> None:
        wanted = mount_options.parse(self.options)
        try:
            target = rooted.open_or_make(self.root, self.destination, "dir")
            try:
                if self.mode == "v2":
                    self._mount_v2(target, wanted)
                else:
                    self._mount_v1(target, wanted)
            finally:
                os.close(target)
        except OSError as error:
            raise MountFailed("cgroup", self.destination, said(error), error.errno) from error

    def _mount_v2(self, target: int, wanted: MountOptions) -> None:
        try:
            tree = calls.new_filesystem("cgroup2", "cgroup", wanted._replace(flags=0).pairs)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            top = "/sys/fs/cgroup"
            tree = calls.open_tree(self.group_paths.get(top, top) if self.in_namespace else top, recursive=True)
        try:
            set_bind_attributes(tree, wanted)
            calls.attach(tree, target)
            _propagate(tree, wanted)
        finally:
            os.close(tree)

    def _mount_v1(self, target: int, wanted: MountOptions) -> None:
        """A tmpfs with a folder for each hierarchy. Everything in it is reached by its descriptor, never by path."""
        folder = calls.new_filesystem("tmpfs", "tmpfs", (("mode", "755"), ("size", "64k")))
        try:
            calls.set_attributes(folder, set=_ATTRIBUTES)
            calls.attach(folder, target)
            for name, entry in _hierarchies(read_mountinfo()).items():
                self._mount_hierarchy(folder, name, entry, wanted)
            if wanted.flags & linux.MS_RDONLY:
                calls.set_attributes(folder, set=calls.MOUNT_ATTR_RDONLY)
            _propagate(folder, wanted)
        finally:
            os.close(folder)

    def _mount_hierarchy(self, folder: int, name: str, entry: MountEntry, wanted: MountOptions) -> None:
        os.mkdir(name, 0o755, dir_fd=folder)
        place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            if not self.in_namespace or not self._mount_own(place, entry, wanted):
                self._bind_group(place, entry, wanted)
        finally:
            os.close(place)
        for controller in name.split(",") if "," in name else ():
            os.symlink(name, controller, dir_fd=folder)

    def _mount_own(self, place: int, entry: MountEntry, wanted: MountOptions) -> bool:
        flags = _FLAGS | linux.MS_RELATIME | wanted.flags & linux.MS_RDONLY
        try:
            linux.mount("cgroup", f"/proc/self/fd/{place}", "cgroup", flags, _controllers(entry))
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            return False
        return True

    def _bind_group(self, place: int, entry: MountEntry, wanted: MountOptions) -> None:
        tree = calls.open_tree(self.group_paths.get(entry.mount_point) or _own_group(entry), recursive=True)
        try:
            set_bind_attributes(tree, wanted)
            calls.attach(tree, place)
        finally:
            os.close(tree)


def _propagate(mount_fd: int, wanted: MountOptions) -> None:
    for how in wanted.propagation:
        calls.set_attributes(mount_fd, propagation=how & ~linux.MS_REC, recursive=bool(how & linux.MS_REC))


def _hierarchies(entries: list[MountEntry]) -> dict[str, MountEntry]:
    """Return the v1 hierarchies of the host by the names of their folders, each once."""
    found: dict[str, MountEntry] = {}
    seen = set()
    for entry in entries:
        if entry.fstype != "cgroup" or not entry.mount_point.startswith("/sys/fs/cgroup/"):
            continue
        controllers = _controllers(entry)
        if controllers not in seen:
            seen.add(controllers)
            found[os.path.basename(entry.mount_point)] = entry
    return found


_V1_FLAGS = frozenset({"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"})


def _controllers(entry: MountEntry) -> str:
    """Return what names a v1 hierarchy as mount data: its controllers, or its own name."""
    options = [option for option in entry.super_options if option not in _V1_FLAGS]
    named = [option for option in options if option.startswith("name=")]
    return named[0] if named else ",".join(option for option in options if "=" not in option)


def _own_group(entry: MountEntry) -> str:
    """Return the folder of this process's own group in a v1 hierarchy."""
    wanted = set(_controllers(entry).split(","))
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if wanted == set(controllers.split(",")):
                inside = path.removeprefix(entry.root) if entry.root != "/" else path
                return os.path.join(entry.mount_point, inside.strip("/"))
    return entry.mount_point
