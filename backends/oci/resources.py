"""linux.resources of config.json as steps: every field, on cgroup v1, hybrid and v2 hosts.

Types and ranges are checked where config.json is (config.check). What the host's kernel has no place for is
refused with the property's name, never ignored; the kernel's old limit of its own memory (memory.kernel) is
the exception that runc makes too, with a warning.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from backends.errors import Unsupported, UsageError
from backends.kernel.cgroup import Cgroup
from backends.kernel.device_filter import DeviceRule, filter_of
from backends.kernel.devices import FilterDevices
from backends.oci import resources1, resources2
from backends.oci.errors import ConfigInvalid
from backends.trace import Step

_UNSET_SWAPPINESS = ((1 << 64) - 1, -1)
_DIALECTS: dict[int, ModuleType] = {1: resources1, 2: resources2}
_PARTS = (
    ("cpu", "cpu", "cpu"),
    ("cpu", "cpuset", "cpuset"),
    ("memory", "memory", "memory"),
    ("pids", "pids", "pids"),
    ("blockIO", "io", "block_io"),
    ("hugepageLimits", "hugetlb", "huge_pages"),
    ("rdma", "rdma", "rdma"),
    ("network", "net_cls", "net_cls"),
    ("network", "net_prio", "net_prio"),
)
"""Property, controller, function of a dialect; in the order in which they are written."""

DEFAULT_DEVICES = (
    DeviceRule("c", None, None, "m"),
    DeviceRule("b", None, None, "m"),
    *(DeviceRule("c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),
    DeviceRule("c", 5, 0, "rwm"),
    DeviceRule("c", 5, 2, "rwm"),
    DeviceRule("c", 10, 200, "rwm"),
    DeviceRule("c", 136, None, "rwm"),
)
"""What every container of runc may use whatever its list says: the devices that config-linux.md makes it have,
terminals, and, for history, tun."""


def of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json's linux.resources, empty where it has none, for steps().

    In a config.json older than runtime-spec 1.2 a task limit of 0 means none: docker 20.10 writes that always.
    """
    found: dict[str, Any] = dict((config.get("linux") or {}).get("resources") or {})
    pids = found.get("pids") or {}
    if pids.get("limit") == 0 and _version(config.get("ociVersion", "")) < (1, 2):
        found["pids"] = {}
    return found


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (1, 2)


def steps(group: Cgroup, resources: Mapping[str, Any], *, current: Mapping[str, Any] | None = None) -> list[Step]:
    """Return the writes that give a group these resources; what is not named stays. Devices are device_steps().

    A group that is not there yet is new: nothing is read, and its undo is its removal. What of `current`
    (resources known to be in force) the new ones need to be understood, memory for a swap limit, is filled in.
    Raises ConfigInvalid, Unsupported.
    """
    is_new = not group.exists()
    wanted = _clean(resources, current or {})
    found: list[Step] = []
    for name, controller, function in _PARTS:
        part = wanted.get(name)
        if part:
            found += _of_controller(group, controller, function, part, is_new)
    unified = wanted.get("unified")
    if unified:
        found += _unified(group, unified, is_new)
    return found


def _clean(resources: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    wanted = dict(resources)
    memory = dict(wanted.get("memory") or {})
    if memory.get("swappiness") in _UNSET_SWAPPINESS:
        del memory["swappiness"]
    elif (memory.get("swappiness") or 0) > 100:
        raise ConfigInvalid(f"invalid memory swappiness value: {memory['swappiness']} (valid range is 0-100)")
    known = (current.get("memory") or {}).get("limit")
    if memory.get("swap") and not memory.get("limit") and known:
        memory["limit"] = known
    wanted["memory"] = memory
    return wanted


def _of_controller(group: Cgroup, controller: str, function: str, part: Any, is_new: bool) -> list[Step]:
    seat = group.seat(controller)
    version, directory = seat or (1 if group.host.mode != "v2" else 2, "")
    act = getattr(_DIALECTS[version], function, None)
    if act is None:
        if _asks(function, part):
            raise Unsupported(f"linux.resources.network: cgroup v2 has no {controller} controller")
        return []
    made: list[Step] = act(directory, part, is_new)
    if made and seat is None:
        names = ", ".join(sorted({name for step in made for name in _names(step)}))
        if group.host.hierarchy(controller) is not None:
            label = "blkio" if controller == "io" else controller
            raise Unsupported(f"cannot set {label} limit: container could not join or create cgroup ({names})")
        raise Unsupported(f"{names}: this host has no {controller} controller in its cgroups")
    return made


def _asks(function: str, part: Mapping[str, Any]) -> bool:
    return bool(part.get("classID")) if function == "net_cls" else bool(part.get("priorities"))


def _names(step: Any) -> list[str]:
    parts = getattr(step, "steps", (step,))
    return [f"linux.resources.{part.name}" for part in parts]


def _unified(group: Cgroup, wanted: Mapping[str, str], is_new: bool) -> list[Step]:
    for name in wanted:
        if "/" in name:
            raise ConfigInvalid(f'unified resource "{name}" must be a file name (no slashes)')
        if "." not in name:
            raise ConfigInvalid(f'unified resource "{name}" must be in the form CONTROLLER.PARAMETER')
    if group.unified is None or group.host.unified is None:
        raise ConfigInvalid("invalid configuration: cannot use unified on cgroup v1")
    for name in wanted:
        controller = name.partition(".")[0]
        if controller not in ("cgroup", *group.host.unified.controllers) and not _is_everywhere(name):
            said = f'unified resource "{name}" can\'t be set: controller "{controller}" not available'
            if group.host.mode == "hybrid":
                said = f"invalid configuration: cannot use unified on cgroup v1: {said} in the unified tree"
            raise ConfigInvalid(said)
    return list(resources2.unified(group.unified, wanted, is_new))


def _is_everywhere(name: str) -> bool:
    return name.endswith(".pressure")


def device_steps(group: Cgroup, entries: Iterable[Mapping[str, Any]], *, defaults: bool = True) -> list[Step]:
    """Return the step that lets a group use the devices that the ordered list says, and DEFAULT_DEVICES.

    In a user namespace, and to a plain user, the kernel lets nobody change them, nor make devices: no step, as
    runc. Raises ConfigInvalid for what cannot be said to cgroup v1.
    """
    rules = (*device_rules(entries), *(DEFAULT_DEVICES if defaults else ()))
    try:
        filter_of(rules)
    except UsageError as error:
        raise ConfigInvalid(f"linux.resources.devices: {error.message}") from error
    if os.geteuid() != 0 or _in_user_namespace():
        return []
    return [FilterDevices(rules, group.directory("devices"), group.unified, is_new=not group.exists())]


def device_rules(entries: Iterable[Mapping[str, Any]]) -> list[DeviceRule]:
    """Return linux.resources.devices as rules. Raises ConfigInvalid."""
    found = []
    for index, entry in enumerate(entries):
        access = entry.get("access", "")
        if not access:
            raise ConfigInvalid(f"linux.resources.devices: device access at {index} field cannot be empty")
        known = "".join(letter for letter in "rwm" if letter in access)
        if not known or not set(access) <= set("rwma"):  # runc passes over an "a" beside others
            raise ConfigInvalid(f'linux.resources.devices[{index}].access: "{access}" is not made of r, w and m')
        kind = entry.get("type") or "a"
        if kind not in ("a", "b", "c", "u"):
            raise ConfigInvalid(f'linux.resources.devices[{index}].type: invalid cgroup device type "{kind}"')
        numbers = (entry.get(name) for name in ("major", "minor"))
        major, minor = (None if number is None or number < 0 else number for number in numbers)
        found.append(DeviceRule("c" if kind == "u" else kind, major, minor, known, bool(entry.get("allow"))))
    return found


def _in_user_namespace() -> bool:
    try:
        with open("/proc/self/uid_map") as file:
            return file.read().split() != ["0", "0", "4294967295"]
    except OSError:
        return os.geteuid() != 0


def warnings(resources: Mapping[str, Any]) -> list[str]:
    """Return what is not done as asked, in runc's words."""
    memory = resources.get("memory") or {}
    ignored = memory.get("kernel") is not None or memory.get("kernelTCP") is not None
    return ["Kernel memory settings are ignored and will be removed"] if ignored else []
