"""A container's file system, from its config.json to steps: mounts, /dev, cgroups, the pivot, masks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backends.kernel import linux, masking, mounts
from backends.kernel.cgroup_mount import MountCgroups
from backends.trace import Step

_DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_DEV_LINKS = (
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """What the steps of one container's file system follow from."""

    config: Mapping[str, Any]
    bundle: str
    root: str
    cgroup_mode: str
    has_userns: bool = False
    no_pivot: bool = False
    group_paths: Mapping[str, str] = field(default_factory=dict)
    """Mount point of a hierarchy → the container's folder in it."""


@dataclass(frozen=True, slots=True)
class BindRoot(mounts.KernelStep):
    """Bind the root onto itself: pivot_root takes a mount point only."""

    root: str
    kind = "mount"

    def describe(self) -> str:
        return f"bind {self.root} onto itself"

    def by_hand(self) -> str:
        return f"mount --rbind {self.root} {self.root}"

    def run(self) -> None:
        linux.mount(self.root, self.root, "", linux.MS_BIND | linux.MS_REC)


def host_mount_fds(scene: Scene) -> dict[int, int]:
    """Return descriptors of mounts that only the runtime can make, by their index in the config's mounts."""
    return {}


def prepare_steps(scene: Scene, fds: Mapping[int, int]) -> list[Step]:
    """Return what init does by itself, before it is told to go on."""
    root = scene.root
    steps: list[Step] = [
        mounts.SetPropagation(),
        BindRoot(root),
    ]
    for entry in scene.config.get("mounts", ()):
        if entry.get("type") == "cgroup":
            continue
        options = tuple(entry.get("options", ()))
        source = entry.get("source", "")
        if "bind" in options or "rbind" in options:
            source = os.path.join(scene.bundle, source)
        steps.append(mounts.MountInRoot(root, entry["destination"], entry.get("type", ""), source, options))
        if entry["destination"] == "/dev":
            steps += [mounts.MakeDevice(root, f"/dev/{name}", "c", major, minor) for name, major, minor in _DEVICES]
            steps.append(mounts.MakeLinks(root, _DEV_LINKS))
    return steps


def enter_steps(scene: Scene) -> list[Step]:
    """Return what follows once init is in its cgroup: cgroup mounts, the pivot, what is hidden and read-only."""
    config, part = scene.config, scene.config.get("linux", {})
    steps: list[Step] = []
    if any(entry.get("type") == "cgroup" for entry in config.get("mounts", ())):
        steps.append(MountCgroups(scene.root, scene.cgroup_mode))
    steps.append(mounts.PivotRoot(scene.root))
    if config["root"].get("readonly"):
        steps.append(masking.ReadonlyRoot())
    if part.get("readonlyPaths"):
        steps.append(masking.ReadonlyPaths(tuple(part["readonlyPaths"])))
    if part.get("maskedPaths"):
        steps.append(masking.MaskPaths(tuple(part["maskedPaths"])))
    return steps
