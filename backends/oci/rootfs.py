"""A container's file system, from its config.json to steps: mounts, /dev, cgroups, the pivot, masks.

::

    runtime   host_mount_fds   help for mounts that only the host's root can make: mapped owners, out of reach
              runtime_steps    a mount to hold its mounts, where it shares the runtime's mount namespace
    init      prepare_steps    propagation, root, mounts, devices
              enter_steps      cgroup mounts, pivot_root, read-only, masks   (in its cgroup, after the hooks)
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.kernel import devnodes, linux, masking, mount_options
from backends.kernel.cgroup_mount import MountCgroups
from backends.kernel.devnodes import DeviceNode, MakeDevices, MakeLinks, ReopenNull
from backends.kernel.mount_in_root import MountInRoot, TreeMaker
from backends.kernel.mounts import SetPropagation
from backends.kernel.root_switch import PivotRoot, PrepareRoot
from backends.trace import Step

_CGROUP_TYPES = ("cgroup", "cgroup2")
_TIED = ("shared", "rshared", "unbindable", "runbindable")
"""Propagation that is set on the new root after the pivot: before it, it would keep the pivot from working."""


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

    is_root_mounted: bool = False
    """Whether somebody mounts the root in the container's own namespace before prepare_steps."""

    @property
    def linux(self) -> Mapping[str, Any]:
        """config.linux."""
        return self.config.get("linux") or {}

    @property
    def namespaces(self) -> frozenset[str]:
        """The types that are not the runtime's own."""
        return frozenset(entry["type"] for entry in self.linux.get("namespaces") or ())

    @property
    def propagation(self) -> str:
        """linux.rootfsPropagation, or nothing."""
        return str(self.linux.get("rootfsPropagation") or "")

    @property
    def label(self) -> str:
        """linux.mountLabel, or nothing."""
        return str(self.linux.get("mountLabel") or "")

    @property
    def is_readonly(self) -> bool:
        """root.readonly."""
        return bool((self.config.get("root") or {}).get("readonly"))

    @property
    def mounts(self) -> Sequence[Mapping[str, Any]]:
        """config.mounts."""
        return self.config.get("mounts") or ()


def host_mount_fds(scene: Scene) -> dict[int, int]:
    """Return descriptors that make mounts which init cannot make alone, by their index in the config's mounts.

    Those of devices count down from -1. Runs in the runtime; init inherits them, and its steps use and close them.
    """
    if not scene.has_userns and not any(_is_mapped(entry) for entry in scene.mounts):
        return {}
    from backends.oci import host_mounts

    return host_mounts.open_all(scene, not_for=_late(scene))


def runtime_steps(scene: Scene) -> list[Step]:
    """Return what the runtime does first: nothing, but for a container that shares its mounts; undone at the end."""
    if "mount" in scene.namespaces:
        return []
    from backends.kernel.root_move import BindRoot

    return [BindRoot(scene.root)]


def prepare_steps(scene: Scene, fds: Mapping[int, int]) -> list[Step]:
    """Return what init does by itself, before it is told to go on."""
    steps = _propagation_steps(scene) if "mount" in scene.namespaces else []
    late = _late(scene)
    steps += [_mount(scene, index, fds) for index in range(len(scene.mounts)) if index not in late]
    return [*steps, *_device_steps(scene, fds)]


def _propagation_steps(scene: Scene) -> list[Step]:
    parent = "slave" if scene.propagation.endswith("slave") else "private"
    before = scene.propagation if scene.propagation and "bindable" not in scene.propagation else "rslave"
    return [SetPropagation(before), PrepareRoot(scene.root, parent, scene.is_root_mounted)]


def enter_steps(scene: Scene) -> list[Step]:
    """Return what follows once init is in its cgroup: cgroup mounts, the pivot, what is hidden and read-only."""
    steps: list[Step] = [_late_mount(scene, index) for index in sorted(_late(scene))]
    steps.append(_root_step(scene))
    if not _has_foreign_dev(scene):
        steps.append(ReopenNull())
    if scene.propagation in _TIED:
        steps.append(SetPropagation(scene.propagation))
    delayed = tuple(_place(scene, entry) for entry in scene.mounts if _is_readonly_later(scene, entry))
    if delayed:
        steps.append(masking.FinishReadonly(delayed))
    if scene.is_readonly:
        steps.append(masking.ReadonlyRoot())
    if scene.linux.get("readonlyPaths"):
        steps.append(masking.ReadonlyPaths(tuple(scene.linux["readonlyPaths"])))
    if scene.linux.get("maskedPaths"):
        steps.append(masking.MaskPaths(tuple(scene.linux["maskedPaths"]), scene.label))
    return steps


def _root_step(scene: Scene) -> Step:
    if "mount" in scene.namespaces and not scene.no_pivot:
        return PivotRoot(scene.root)
    from backends.kernel.root_move import ChangeRoot, MoveRoot

    return MoveRoot(scene.root) if "mount" in scene.namespaces else ChangeRoot(scene.root)


def _is_mapped(entry: Mapping[str, Any]) -> bool:
    options = entry.get("options") or ()
    return bool(entry.get("uidMappings") or entry.get("gidMappings") or "idmap" in options or "ridmap" in options)


def _is_bind(entry: Mapping[str, Any]) -> bool:
    options = entry.get("options") or ()
    return "bind" in options or "rbind" in options


def _is_readonly_later(scene: Scene, entry: Mapping[str, Any]) -> bool:
    """Whether it has to be writable for as long as something is mounted on it, or made in it."""
    if _is_bind(entry) or not mount_options.parse(entry.get("options") or ()).flags & linux.MS_RDONLY:
        return False
    return entry.get("type") == "tmpfs" or _place(scene, entry) == "/dev"


def _destination(scene: Scene, entry: Mapping[str, Any]) -> str:
    """Return where a mount goes in the container, even if it was given as a path on the host."""
    destination, root = str(entry["destination"]), scene.root.rstrip("/")
    return destination.removeprefix(root) if root and destination.startswith(f"{root}/") else destination


def _place(scene: Scene, entry: Mapping[str, Any]) -> str:
    return posixpath.normpath("/" + _destination(scene, entry).lstrip("/"))


def _late(scene: Scene) -> frozenset[int]:
    """Return which mounts wait for the cgroup: its own, and what is mounted into them afterwards."""
    found, tops = set(), []
    for index, entry in enumerate(scene.mounts):
        place = _place(scene, entry)
        if entry.get("type") in _CGROUP_TYPES and not _is_bind(entry):
            tops.append(f"{place}/")
        elif not any(f"{place}/".startswith(top) for top in tops):
            continue
        found.add(index)
    return frozenset(found)


def _late_mount(scene: Scene, index: int) -> Step:
    entry = scene.mounts[index]
    if entry.get("type") != "cgroup" or _is_bind(entry):
        return _mount(scene, index, {})
    return MountCgroups(
        scene.root,
        scene.cgroup_mode,
        _destination(scene, entry),
        tuple(entry.get("options") or ()),
        in_namespace="cgroup" in scene.namespaces,
        group_paths=scene.group_paths,
    )


def _mount(scene: Scene, index: int, fds: Mapping[int, int]) -> Step:
    entry = scene.mounts[index]
    options, source = tuple(entry.get("options") or ()), entry.get("source") or ""
    if _is_bind(entry):
        source = os.path.join(scene.bundle, source)
    if entry.get("type") == "devpts" and scene.has_userns:
        options = tuple(option for option in options if not _is_foreign_group(scene, option))
    return MountInRoot(
        scene.root,
        _destination(scene, entry),
        entry.get("type") or "",
        source,
        options,
        maker=_maker(scene, entry, fds[index]) if index in fds else None,
        label=scene.label,
        in_userns=scene.has_userns,
    )


def _maker(scene: Scene, entry: Mapping[str, Any], fd: int) -> TreeMaker:
    """Return what host_mount_fds has prepared: its helper's socket, or a user namespace with a map of owners."""
    if scene.has_userns:
        from backends.kernel.mount_helper import HelpedTree

        return HelpedTree(fd, is_mapped=_is_mapped(entry))
    from backends.kernel.idmap import MappedTree

    return MappedTree(fd, map_below="ridmap" in (entry.get("options") or ()))


def _is_foreign_group(scene: Scene, option: str) -> bool:
    """Whether an option names a group that the container's user namespace does not have (as others drop it too)."""
    name, _, number = option.partition("=")
    maps = scene.linux.get("gidMappings") or ()
    if name != "gid" or not number.isdigit() or not maps:
        return False
    return not any(m["containerID"] <= int(number) < m["containerID"] + m["size"] for m in maps)


def _has_foreign_dev(scene: Scene) -> bool:
    """Whether /dev is shown as somebody else made it, which then is complete."""
    return any(_is_bind(entry) and _place(scene, entry) == "/dev" for entry in scene.mounts)


def asked_nodes(scene: Scene) -> list[DeviceNode]:
    """Return the devices that the config asks for; /dev/ptmx is always a link."""
    if _has_foreign_dev(scene):
        return []
    nodes = [_node(entry) for entry in scene.linux.get("devices") or ()]
    return [node for node in nodes if posixpath.normpath(node.path) != "/dev/ptmx"]


def _device_steps(scene: Scene, fds: Mapping[int, int]) -> list[Step]:
    if _has_foreign_dev(scene):
        return []
    asked = asked_nodes(scene)
    places = {posixpath.normpath(node.path) for node in asked}
    nodes = [node for node in devnodes.DEFAULT_NODES if node.path not in places]
    trees = {node.path: fds[~number] for number, node in enumerate(asked) if ~number in fds}
    core = (devnodes.CORE_LINK,) if os.path.exists("/proc/kcore") else ()
    return [
        MakeDevices(scene.root, (*nodes, *asked), bind=scene.has_userns, trees=trees),
        MakeLinks(scene.root, (*devnodes.DEFAULT_LINKS, *core), replacing=(devnodes.PTMX_LINK,)),
    ]


def _node(entry: Mapping[str, Any]) -> DeviceNode:
    mode = entry.get("fileMode")
    return DeviceNode(
        entry["path"].rstrip("/"),
        entry["type"],
        entry.get("major") or 0,
        entry.get("minor") or 0,
        0o666 if mode is None else mode & 0o7777,
        entry.get("uid") or 0,
        entry.get("gid") or 0,
    )
