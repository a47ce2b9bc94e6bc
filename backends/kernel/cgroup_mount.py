"""The container's own view of its cgroups, read-only, as a step (cgroup_namespaces(7))."""

from __future__ import annotations

import os
from dataclasses import dataclass

from backends.kernel import linux, rooted
from backends.kernel.mounts import KernelStep

_FLAGS = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC | linux.MS_RELATIME


@dataclass(frozen=True, slots=True)
class MountCgroups(KernelStep):
    """Mount the hierarchies the host has below /sys/fs/cgroup of a container, as its cgroup namespace shows them."""

    root: str
    mode: str
    """ "v2", "hybrid" or "v1"."""

    kind = "mount"

    def describe(self) -> str:
        return f"mount the cgroup tree ({self.mode}) read-only on /sys/fs/cgroup"

    def by_hand(self) -> str:
        if self.mode == "v2":
            return f"mount -t cgroup2 -o ro cgroup2 {self.root}/sys/fs/cgroup"
        return f"mount -t tmpfs tmpfs {self.root}/sys/fs/cgroup; mount -t cgroup -o ro,memory cgroup …/memory; …"

    def run(self) -> None:
        with rooted.target(self.root, "/sys/fs/cgroup") as target:
            if self.mode == "v2":
                linux.mount("cgroup2", target, "cgroup2", _FLAGS | linux.MS_RDONLY)
                return
            linux.mount("tmpfs", target, "tmpfs", _FLAGS, "mode=755,size=64k")
        for controllers in _hierarchies():
            self._mount_v1(controllers)
        with rooted.target(self.root, "/sys/fs/cgroup") as target:
            linux.mount("", target, "", _FLAGS | linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY)

    def _mount_v1(self, controllers: str) -> None:
        folder = "/sys/fs/cgroup/" + controllers.removeprefix("name=")
        rooted.make_directory(self.root, folder)
        with rooted.target(self.root, folder) as target:
            linux.mount("cgroup", target, "cgroup", _FLAGS | linux.MS_RDONLY, controllers)


def _hierarchies() -> list[str]:
    """Return the controller lists of the v1 hierarchies that are mounted, as /proc/self/cgroup names them."""
    with open("/proc/self/cgroup") as lines:
        names = [line.split(":")[1] for line in lines]
    mounted = set(os.listdir("/sys/fs/cgroup"))
    return [name for name in names if name and mounted & {name.removeprefix("name="), *name.split(",")}]
