"""What the properties of a config.json must be to one another, and to this kernel. Runs after their types are known.

Wordings are runc's, since the callers of both read them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backends.errors import Unsupported
from backends.kernel import lsm
from backends.kernel.number_list import numbers_of
from backends.oci import scheduler_relations
from backends.oci.schema import Refused, shown

Config = Mapping[str, Any]

_FOREIGN = ("windows", "solaris", "zos", "freebsd", "vm")
_IPC_NAMES = (
    "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced msg_next_id sem_next_id shm_next_id auto_msgmni"
)
_IPC_SYSCTLS = frozenset(f"kernel.{name}" for name in _IPC_NAMES.split())


def check(config: Config) -> None:
    """Raise Refused or Unsupported for the first relation that does not hold."""
    linux: Config = config.get("linux", {})
    _foreign(config)
    _version(config["ociVersion"])
    check_process(config["process"])
    types = _namespaces(linux.get("namespaces", ()))
    _mappings(linux, types)
    _names(config, types)
    _paths(linux, types)
    for name in linux.get("sysctl", ()):
        check_sysctl(name, types)
    _domain(config, linux.get("sysctl", {}))
    for index, mount in enumerate(config.get("mounts", ())):
        try:
            _mount(mount, types)
        except Refused as error:
            raise error.within(f"mounts[{index}]") from None
    _devices(linux.get("devices", ()))
    _seccomp(linux.get("seccomp", {}))
    _memory_policy(linux.get("memoryPolicy"))
    _not_done(linux)


def check_process(process: Config) -> None:
    """Raise Refused or Unsupported for what a process asks for and nobody can be."""
    try:
        _rlimits(process.get("rlimits", ()))
        if "scheduler" in process:
            scheduler_relations.check(process["scheduler"])
        _labels(process)
    except Refused as error:
        raise error.within("process") from None


def _foreign(config: Config) -> None:
    for name in _FOREIGN:
        if config.get(name):
            raise Unsupported(f"{name}: this runtime makes Linux containers only")


def _version(version: str) -> None:
    if version.partition(".")[0] != "1":
        raise Unsupported(f"ociVersion: version {version[:40]} of the specification is not supported, 1.x is")


def _rlimits(limits: Sequence[Config]) -> None:
    seen = set()
    for index, limit in enumerate(limits):
        if limit["type"] in seen:
            raise Refused(f"duplicated rlimit {limit['type']}", f"rlimits[{index}].type")
        seen.add(limit["type"])
        if limit["soft"] > limit["hard"]:
            raise Refused(f"soft limit {limit['soft']} is above the hard limit {limit['hard']}", f"rlimits[{index}]")


def _labels(process: Config) -> None:
    if process.get("apparmorProfile") and not lsm.has_apparmor():
        raise Unsupported("process.apparmorProfile: apparmor: config provided but apparmor not supported")
    if process.get("selinuxLabel") and not lsm.has_selinux():
        text = "selinux label is specified in config, but selinux is disabled or not supported"
        raise Unsupported(f"process.selinuxLabel: {text}")


def _namespaces(entries: Sequence[Config]) -> Mapping[str, str]:
    """Return the path by type; "" for a new one."""
    found: dict[str, str] = {}
    for index, entry in enumerate(entries):
        name = entry["type"]
        if name in found:
            raise Refused(f'malformed spec file: duplicated ns "{name}"', f"linux.namespaces[{index}]")
        found[name] = entry.get("path", "")
        if not os.path.exists(f"/proc/self/ns/{ {'network': 'net', 'mount': 'mnt'}.get(name, name) }"):
            raise Unsupported(f"linux.namespaces[{index}]: {name} namespaces aren't enabled in the kernel")
    return found


def _mappings(linux: Config, types: Mapping[str, str]) -> None:
    given = [name for name in ("uidMappings", "gidMappings") if linux.get(name)]
    if given and "user" not in types:
        text = "user namespace mappings specified, but user namespace isn't enabled in the config"
        raise Refused(text, f"linux.{given[0]}")
    if "user" in types and not types["user"]:
        for name in ("uidMappings", "gidMappings"):
            if name not in given:
                text = "user namespaces enabled, but no namespace path to join nor mappings to apply specified"
                raise Refused(text, f"linux.{name}")
    for name in given:
        _one_to_one(linux[name], f"linux.{name}")
    if "timeOffsets" in linux:
        if "time" not in types:
            text = "time namespace offsets specified, but time namespace isn't enabled in the config"
            raise Refused(text, "linux.timeOffsets")
        if types["time"]:
            text = "time namespace enabled, but both namespace path and time offsets specified"
            raise Refused(f"{text} -- you may only provide one", "linux.timeOffsets")


def _one_to_one(entries: Sequence[Config], place: str) -> None:
    """Refuse ranges that overlap or do not fit: the kernel would answer a bare EINVAL."""
    if len(entries) > 340:
        raise Refused("the kernel takes at most 340 ranges", place)
    for side in ("containerID", "hostID"):
        end, ranges = -1, sorted((entry[side], entry["size"]) for entry in entries)
        for first, size in ranges:
            if first <= end:
                raise Refused(f"the ranges overlap at {side} {first}", place)
            end = first + size - 1
            if end > 2**32 - 2:
                raise Refused(f"the range at {side} {first} leaves the ids that there are", place)


def _names(config: Config, types: Mapping[str, str]) -> None:
    for name in ("hostname", "domainname"):
        if config.get(name):
            if "uts" not in types:
                raise Refused(f"unable to set {name} without a private UTS namespace", name)
            if len(config[name].encode()) > 64:
                raise Refused("the kernel takes at most 64 bytes", name)


def _paths(linux: Config, types: Mapping[str, str]) -> None:
    for name in ("maskedPaths", "readonlyPaths"):
        if linux.get(name) and "mount" not in types:
            raise Refused("unable to restrict sys entries without a private MNT namespace", f"linux.{name}")


def dotted(name: str) -> str:
    """Return a sysctl's name with dots between its parts, as sysctl(8) reads "net/ipv4/conf/eth0.1/mtu"."""
    first = min((place for place in (name.find("."), name.find("/")) if place >= 0), default=-1)
    if first < 0 or name[first] == ".":
        return name
    return name.translate(str.maketrans("./", "/."))


def check_sysctl(name: str, types: Mapping[str, str]) -> None:
    """Raise Refused for a kernel parameter that does not belong to one of the container's own namespaces."""
    wanted, place = dotted(name), f"linux.sysctl[{shown(name)}]"
    if ".." in name or wanted.startswith(("/", ".")):
        raise Refused("is no name of a sysctl", place)
    if wanted in _IPC_SYSCTLS or wanted.startswith("fs.mqueue."):
        if "ipc" not in types:
            raise Refused(f'sysctl "{wanted}" is not allowed in the hosts ipc namespace', place)
    elif wanted.startswith("net."):
        if "network" not in types or _is_ours("net", types["network"]):
            raise Refused(f'sysctl "{wanted}" not allowed in host network namespace', place)
    elif wanted == "kernel.domainname" and "uts" in types:
        return
    elif wanted == "kernel.hostname" and "uts" in types:
        text = f'sysctl "{wanted}" is not allowed as it conflicts with the OCI "hostname" field'
        raise Refused(text, place)
    elif wanted.startswith("user."):
        if "user" not in types:
            raise Refused(f"setting ucounts without a user namespace not allowed: {wanted}", place)
    else:
        raise Refused(f'sysctl "{wanted}" is not in a separate kernel namespace', place)


def _domain(config: Config, sysctls: Mapping[str, str]) -> None:
    """Two names for one thing: neither is passed over without a word."""
    for name, value in sysctls.items():
        if dotted(name) == "kernel.domainname" and config.get("domainname") not in (None, "", value):
            text = f"is {shown(value)}, but domainname is {shown(config['domainname'])}"
            raise Refused(text, f"linux.sysctl[{shown(name)}]")


def _is_ours(kind: str, path: str) -> bool:
    if not path:
        return False
    try:
        ours, theirs = os.stat(f"/proc/self/ns/{kind}"), os.stat(path)
    except OSError:
        return False  # whoever joins it says so
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _mount(mount: Config, types: Mapping[str, str]) -> None:
    options = mount.get("options", ())
    is_bind = "bind" in options or "rbind" in options or mount.get("type") == "bind"
    given = [name for name in ("uidMappings", "gidMappings") if mount.get(name)]
    asks = [option for option in options if option in ("idmap", "ridmap")]
    if not given and not asks:
        return
    if not is_bind:
        raise Refused("id-mapped mounts are only supported for bind-mounts", given[0] if given else "options")
    if len(given) == 1 or (asks and not given and "user" not in types):
        raise Refused(
            "id-mapped mounts must have both uid and gid mappings specified", given[0] if given else "options"
        )
    for name in given:
        _one_to_one(mount[name], name)


def _devices(devices: Sequence[Config]) -> None:
    for index, device in enumerate(devices):
        if device["type"] != "p":
            for name in ("major", "minor"):
                if device.get(name, -1) < 0:
                    raise Refused("is required for a device", f"linux.devices[{index}].{name}")


def _seccomp(profile: Config) -> None:
    if profile.get("defaultAction") == "SCMP_ACT_NOTIFY":
        raise Refused("SCMP_ACT_NOTIFY cannot be used as default action", "linux.seccomp.defaultAction")
    notifies = False
    for index, rule in enumerate(profile.get("syscalls", ())):
        if rule["action"] == "SCMP_ACT_NOTIFY":
            notifies = True
            if "write" in rule["names"]:
                text = "SCMP_ACT_NOTIFY cannot be used for the write syscall"
                raise Refused(text, f"linux.seccomp.syscalls[{index}]")
    if notifies and not profile.get("listenerPath"):
        raise Refused("is required when SCMP_ACT_NOTIFY is used", "linux.seccomp.listenerPath")
    if profile.get("listenerMetadata") and not profile.get("listenerPath"):
        raise Refused("is of no use without listenerPath", "linux.seccomp.listenerMetadata")


def _memory_policy(policy: Config | None) -> None:
    if policy is None:
        return
    nodes = policy.get("nodes", "").strip()
    if policy["mode"] in ("MPOL_DEFAULT", "MPOL_LOCAL") and nodes:
        text = f"memory policy mode requires 0 nodes but got {len(numbers_of(nodes))}"
        raise Refused(text, "linux.memoryPolicy.nodes")
    if policy["mode"] not in ("MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED") and not nodes:
        raise Refused("memory policy mode requires at least one node but got 0", "linux.memoryPolicy.nodes")


def _not_done(linux: Config) -> None:
    if linux.get("intelRdt") is not None:
        text = "intelRdt is specified in config, but Intel RDT is not enabled"
        if os.path.isdir("/sys/fs/resctrl/info"):
            text = "Intel RDT is not supported by this runtime"
        raise Unsupported(f"linux.intelRdt: {text}")
    if linux.get("netDevices"):
        raise Unsupported("linux.netDevices: moving network devices is not supported by this runtime")
    if linux.get("personality", {}).get("flags"):
        raise Unsupported("linux.personality.flags: no personality flag is supported")
    if linux.get("mountLabel") and not lsm.has_selinux():
        text = "selinux label is specified in config, but selinux is disabled or not supported"
        raise Unsupported(f"linux.mountLabel: {text}")


def warnings(config: Config) -> Iterator[str]:
    """Yield what runc only warns about: it is passed over, and somebody should know."""
    for index, mount in enumerate(config.get("mounts", ())):
        if not mount["destination"].startswith("/"):
            where = f"mounts[{index}].destination"
            yield f"{where}: mount destination {mount['destination']} is not absolute, taken as relative to /"
    memory = config.get("linux", {}).get("resources", {}).get("memory", {})
    if "kernel" in memory or "kernelTCP" in memory:
        yield "linux.resources.memory: Kernel memory settings are ignored and will be removed"
