"""From a container's spec to the ordered list of kernel acts that make it. Pure: nothing here runs.

::

    supervisor  cgroup made and limited
    stage       new namespaces, fork            (the stage ends; init is adopted by the supervisor)
    supervisor  init into the cgroup · bridge, veth into init's network namespace · "go"
    init        mounts, lo · (go) cgroup namespace · network · pivot_root · masks · host name · privileges · exec
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.errors import Unsupported
from backends.kernel import credentials, masking, mounts, namespaces, netlink, seccomp
from backends.kernel.cgroup import Cgroup, CgroupHost
from backends.kernel.cgroup_mount import MountCgroups
from backends.kernel.devices import AllowDevices
from backends.native.record import ContainerRecord
from backends.native.spec import device_rules, limits_of
from backends.trace import Step

_DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_DEV_LINKS = (
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)
_STAGE_NAMESPACES = ("mount", "pid", "network", "ipc", "uts")


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of one start, by who runs them and when."""

    supervisor: Sequence[Step]
    stage: Sequence[Step]
    supervisor_joined: Sequence[Step]
    """After init exists: its pid is in them (0 in a plan that is only shown)."""

    init_alone: Sequence[Step]
    init_joined: Sequence[Step]
    init_final: Sequence[Step]
    """After the user is known: privileges, then exec."""

    def in_order(self) -> list[tuple[str, Step]]:
        """Return (process, step) as they follow one another."""
        parts = (
            ("supervisor", self.supervisor),
            ("stage", self.stage),
            ("supervisor", self.supervisor_joined),
            ("init", self.init_alone),
            ("init", self.init_joined),
            ("init", self.init_final),
        )
        return [(process, step) for process, steps in parts for step in steps]


def build(record: ContainerRecord, config: Mapping[str, Any], folder: Path, host: CgroupHost, pid: int = 0) -> Plan:
    """Return the plan that starts a container. Raises Unsupported for what this runtime cannot do."""
    linux_part, root = config["linux"], str(folder / config["root"]["path"])
    group = host.group(linux_part["cgroupsPath"])
    types = tuple(namespace["type"] for namespace in linux_part["namespaces"])
    if "user" in types:
        raise Unsupported("user namespaces are not supported yet")
    networked = record.network == "bridge"
    return Plan(
        supervisor=[*group.create_steps(), *group.limit_steps(limits_of(config)), _devices(config, group)],
        stage=[namespaces.Unshare(tuple(name for name in _STAGE_NAMESPACES if name in types))],
        supervisor_joined=[*group.enter_steps(pid), *(_veth(record, pid) if networked else ())],
        init_alone=[
            *_file_system(record, config, folder, root),
            *([netlink.LoopbackUp()] if "network" in types else []),
        ],
        init_joined=_joined(record, config, host, root, types),
        init_final=[],
    )


def final_steps(config: Mapping[str, Any], account: credentials.Account) -> list[Step]:
    """Return what turns init into the container's user: the last steps before exec, for start and exec alike."""
    process = config["process"]
    sets = {name: tuple(process.get("capabilities", {}).get(name, ())) for name in _SETS}
    steps: list[Step] = []
    if process.get("oomScoreAdj") is not None:
        steps.append(credentials.SetOomScore(process["oomScoreAdj"]))
    if process.get("rlimits"):
        limits = tuple((limit["type"], limit["soft"], limit["hard"]) for limit in process["rlimits"])
        steps.append(credentials.SetRlimits(limits))
    steps += [credentials.DropBounding(sets["bounding"]), credentials.SetUser(account.uid, account.gid, account.groups)]
    if account.uid == 0:
        steps.append(
            credentials.SetCapabilities(sets["effective"], sets["permitted"], sets["inheritable"], sets["ambient"])
        )
    if process.get("noNewPrivileges"):
        steps.append(credentials.NoNewPrivileges())
    profile = config["linux"].get("seccomp")
    if profile:
        allowed = sum(len(rule["names"]) for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW")
        steps.append(seccomp.LoadSeccomp(seccomp.compile_filter(profile), f"{allowed} calls allowed"))
    return steps


def shown_final_steps(config: Mapping[str, Any], user: str | None) -> list[Step]:
    """Return the last steps as `--explain` shows them: a user given by name is known only inside the container."""
    number = int(user.partition(":")[0]) if user and user.partition(":")[0].isdigit() else 0
    return final_steps(config, credentials.Account(number, 0, (0,), "/"))


_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def _file_system(record: ContainerRecord, config: Mapping[str, Any], folder: Path, root: str) -> list[Step]:
    steps: list[Step] = [
        mounts.SetPropagation(),
        mounts.MountOverlay(tuple(record.layers), str(folder / "upper"), str(folder / "work"), root),
    ]
    for entry in config["mounts"]:
        if entry["type"] == "cgroup":
            continue  # needs the cgroup namespace, which comes later
        options = tuple(entry.get("options", ()))
        steps.append(mounts.MountInRoot(root, entry["destination"], entry["type"], entry.get("source", ""), options))
        if entry["destination"] == "/dev":
            steps += [mounts.MakeDevice(root, f"/dev/{name}", "c", major, minor) for name, major, minor in _DEVICES]
            steps.append(mounts.MakeLinks(root, _DEV_LINKS))
    return steps


def _joined(
    record: ContainerRecord, config: Mapping[str, Any], host: CgroupHost, root: str, types: Sequence[str]
) -> list[Step]:
    part = config["linux"]
    steps: list[Step] = []
    if "cgroup" in types:
        steps.append(namespaces.Unshare(("cgroup",)))
    if any(entry["type"] == "cgroup" for entry in config["mounts"]):
        steps.append(MountCgroups(root, host.mode))
    if record.network == "bridge":
        assert record.address is not None
        assert record.gateway is not None
        steps.append(netlink.ConfigureLink("eth0", record.address, record.prefix_length, record.gateway))
    steps.append(mounts.PivotRoot(root))
    if config["root"].get("readonly"):
        steps.append(masking.ReadonlyRoot())
    if part.get("sysctl"):
        steps.append(namespaces.WriteSysctls(tuple(part["sysctl"].items())))
    steps += [masking.MaskPaths(tuple(part["maskedPaths"])), masking.ReadonlyPaths(tuple(part["readonlyPaths"]))]
    steps += [namespaces.SetHostname(config["hostname"]), namespaces.JoinSessionKeyring(f"_ses.{record.id}")]
    return steps


def _devices(config: Mapping[str, Any], group: Cgroup) -> Step:
    return AllowDevices(device_rules(config), group.directory("devices"), group.unified)


def _veth(record: ContainerRecord, pid: int) -> list[Step]:
    assert record.bridge is not None
    assert record.gateway is not None
    return [
        netlink.EnsureBridge(record.bridge, record.gateway, record.prefix_length),
        netlink.MakeVeth(record.host_link, "eth0", record.bridge, pid, record.mac),
    ]
