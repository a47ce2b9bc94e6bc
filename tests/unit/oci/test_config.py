"""What config.json may hold, and how it is refused."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.errors import Unsupported
from backends.kernel import lsm
from backends.native.seccomp_profile import default_profile
from backends.oci import config as configs
from backends.oci.errors import ConfigInvalid

Path_ = tuple[str | int, ...]


def usual() -> dict[str, Any]:
    """A configuration that has something of everything."""
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": False,
            "consoleSize": {"height": 24, "width": 80},
            "user": {"uid": 0, "gid": 0, "additionalGids": [5], "umask": 18},
            "args": ["sh"],
            "env": ["PATH=/bin", "EMPTY="],
            "cwd": "/",
            "capabilities": {"bounding": ["CAP_KILL"], "effective": [], "ambient": ["CAP_NEW"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 2**10}],
            "noNewPrivileges": True,
            "oomScoreAdj": 100,
            "scheduler": {"policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
            "execCPUAffinity": {"initial": "0", "final": "0-1, 3"},
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "box",
        "domainname": "inn",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/a", "source": "/b", "options": ["rbind", "ro"],
             "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
             "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}]},
        ],
        "hooks": {"poststop": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}]},
        "annotations": {"org.example": "x", "nothing": ""},
        "linux": {
            "namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount", "cgroup", "user")],
            "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
            "gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0}],
            "cgroupsPath": "/inn/box",
            "resources": {
                "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": -1,
                                                                "access": "r"}],
                "memory": {"limit": 2**29, "swap": -1, "swappiness": 60, "disableOOMKiller": False},
                "cpu": {"shares": 1024, "quota": -1, "period": 100000, "cpus": "0-1", "idle": 0, "burst": 5},
                "pids": {"limit": 100},
                "blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}]},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 9223372036854772000}],
                "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
                "rdma": {"mlx5_1": {"hcaHandles": 3}},
                "unified": {"memory.high": "1000"},
            },
            "sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "65536", "net/ipv4/conf/eth0.1/rp_filter": "0"},
            "seccomp": default_profile(),
            "rootfsPropagation": "slave",
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "personality": {"domain": "LINUX"},
        },
    }  # fmt: skip


def changed(path: Path_, value: object) -> dict[str, Any]:
    """The usual configuration with another value somewhere; ... takes it out."""
    whole = copy.deepcopy(usual())
    part: Any = whole
    for name in path[:-1]:
        part = part.setdefault(name, {}) if isinstance(part, dict) else part[name]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return whole


def test_a_configuration_with_everything_is_taken() -> None:
    configs.check(usual())


def test_unknown_properties_are_ignored() -> None:
    whole = changed(("process", "future"), {"x": [1]}) | {"org.future": None}
    configs.check(whole)


@pytest.mark.parametrize(
    "path,value,message",
    [
        (("ociVersion",), ..., "ociVersion: is required"),
        (("ociVersion",), "1.2", "ociVersion: \"1.2\" is not a version"),
        (("ociVersion",), 1.2, "ociVersion: must be a string, not 1.2"),
        (("process",), ..., "process: process property must not be empty"),
        (("root",), ..., "root: root must be specified"),
        (("process", "args"), [], "process.args: args must not be empty"),
        (("process", "args"), ["a\0b"], "process.args[0]: contains null byte"),
        (("process", "cwd"), "", "process.cwd: Cwd property must not be empty"),
        (("process", "cwd"), "tmp", "process.cwd: Cwd must be an absolute path"),
        (("process", "env"), ["X"], "process.env[0]: invalid environment variable: missing '='"),
        (("process", "terminal"), "yes", "process.terminal: must be true or false, not \"yes\""),
        (("process", "consoleSize"), {"height": 1}, "process.consoleSize.width: is required"),
        (("process", "user", "uid"), 2**32 - 1, "process.user.uid: must be 0 to 4294967294"),
        (("process", "user", "uid"), True, "process.user.uid: must be a whole number, not true"),
        (("process", "user", "umask"), 0o1000, "process.user.umask: must be 0 to 511"),
        (("process", "rlimits", 0, "type"), "RLIMIT_TEST", "process.rlimits[0].type: wrong rlimit value: RLIMIT_TEST"),
        (("process", "rlimits", 0, "soft"), 2048, "process.rlimits[0]: soft limit 2048 is above the hard limit 1024"),
        (("process", "oomScoreAdj"), 1001, "process.oomScoreAdj: must be -1000 to 1000"),
        (("process", "scheduler"), {}, "process.scheduler.policy: scheduler policy is required"),
        (("process", "scheduler", "nice"), 20, "process.scheduler.nice: invalid scheduler.nice: 20 when"),
        (("process", "scheduler", "priority"), 1, "process.scheduler.priority: scheduler.priority can only be"),
        (("process", "scheduler", "runtime"), 1, "process.scheduler.runtime: scheduler runtime/deadline/period can"),
        (("process", "ioPriority", "class"), "BEST", "process.ioPriority.class: invalid ioPriority.Class: BEST"),
        (("process", "execCPUAffinity", "final"), "3-1", "process.execCPUAffinity.final: invalid range: 3-1"),
        (("hostname",), "x" * 65, "hostname: the kernel takes at most 64 bytes"),
        (("mounts", 0, "destination"), ..., "mounts[0].destination: is required"),
        (("mounts", 0, "options"), "ro", "mounts[0].options: must be an array"),
        (("mounts", 1, "gidMappings"), ..., "mounts[1].uidMappings: id-mapped mounts must have both uid and gid"),
        (("mounts", 1, "options"), ["ro"], "mounts[1].uidMappings: id-mapped mounts are only supported for bind"),
        (("hooks", "poststop", 0, "path"), "true", "hooks.poststop[0].path: must be an absolute path"),
        (("hooks", "poststop", 0, "timeout"), 0, "hooks.poststop[0].timeout: must be 1 to"),
        (("annotations", ""), "x", "annotations[\"\"]: must not be empty"),
        (("annotations", "k"), 5, "annotations[\"k\"]: must be a string"),
        (("linux", "namespaces", 0, "type"), "net", "linux.namespaces[0].type: namespace \"net\" does not exist"),
        (("linux", "namespaces", 1, "type"), "pid", "linux.namespaces[1]: malformed spec file: duplicated ns \"pid\""),
        (("linux", "namespaces", 0, "path"), "x", "linux.namespaces[0].path: must be an absolute path"),
        (("linux", "uidMappings"), ..., "linux.uidMappings: user namespaces enabled, but no namespace path"),
        (("linux", "uidMappings"), [{"containerID": 0, "hostID": 5, "size": 0}], "linux.uidMappings[0].size: must be"),
        (("linux", "timeOffsets"), {"boottime": {"secs": 1}}, "linux.timeOffsets: time namespace offsets specified"),
        (("linux", "timeOffsets"), {"realtime": {}}, "linux.timeOffsets[\"realtime\"]: \"realtime\" is none of"),
        (("linux", "sysctl"), {"kernel.panic": "1"}, "sysctl \"kernel.panic\" is not in a separate kernel namespace"),
        (("linux", "sysctl"), {"kernel.hostname": "x"}, "conflicts with the OCI \"hostname\" field"),
        (("linux", "sysctl"), {"net/../kernel/panic": "1"}, "is no name of a sysctl"),
        (("linux", "sysctl"), {"kernel.sem": 5}, "linux.sysctl[\"kernel.sem\"]: must be a string"),
        (("linux", "devices", 0, "type"), "x", "linux.devices[0].type: invalid device type \"x\""),
        (("linux", "devices", 0, "major"), ..., "linux.devices[0].major: is required for a device"),
        (("linux", "resources", "devices", 0, "access"), "", "devices[0].access: device access cannot be empty"),
        (("linux", "resources", "devices", 0, "access"), "rx", "devices[0].access: invalid device access 'rx'"),
        (("linux", "resources", "memory", "limit"), "1g", "linux.resources.memory.limit: must be a whole number"),
        (("linux", "resources", "memory", "swappiness"), -1, "linux.resources.memory.swappiness: must be 0 to"),
        (("linux", "resources", "cpu", "cpus"), "a", "linux.resources.cpu.cpus: 'a' is no number or range"),
        (("linux", "resources", "blockIO", "weight"), 5, "linux.resources.blockIO.weight: must be 10 to 1000"),
        (("linux", "resources", "hugepageLimits", 0, "pageSize"), "2mb", "hugepageLimits[0].pageSize: \"2mb\" is not"),
        (("linux", "resources", "unified"), {"../x": "1"}, "unified resource must be a file name (no slashes)"),
        (("linux", "seccomp", "defaultAction"), "SCMP_ACT_NOTIFY", "SCMP_ACT_NOTIFY cannot be used as default action"),
        (("linux", "seccomp", "defaultAction"), "ALLOW", "string ALLOW is not a valid action for seccomp"),
        (("linux", "seccomp", "architectures"), ["X86"], "string X86 is not a valid arch for seccomp"),
        (("linux", "seccomp", "flags"), ["LOG"], "linux.seccomp.flags[0]: seccomp flag LOG is not known"),
        (("linux", "seccomp", "listenerMetadata"), "x", "linux.seccomp.listenerMetadata: is of no use without"),
        (("linux", "rootfsPropagation"), "none", "linux.rootfsPropagation: rootfsPropagation=none is not supported"),
        (("linux", "maskedPaths"), ["proc"], "linux.maskedPaths[0]: must be an absolute path"),
        (("linux", "personality", "domain"), "BSD", "linux.personality.domain: invalid personality domain BSD"),
        (("linux", "memoryPolicy"), {"mode": "MPOL_BIND"}, "memory policy mode requires at least one node but got 0"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_the_propertys_name_first(path: Path_, value: object, message: str) -> None:
    with pytest.raises(ConfigInvalid) as raised:
        configs.check(changed(path, value))
    assert message in raised.value.message
    assert raised.value.message.startswith(str(path[0]))


@pytest.mark.parametrize(
    "path,value,message",
    [
        (("ociVersion",), "2.0.0", "ociVersion: version 2.0.0 of the specification is not supported"),
        (("windows",), {"servicing": True}, "windows: this runtime makes Linux containers only"),
        (("vm",), {"kernel": {"path": "/k"}}, "vm: this runtime makes Linux containers only"),
        (("linux", "intelRdt"), {"closID": "x"}, "linux.intelRdt: "),
        (("linux", "netDevices"), {"eth9": {}}, "linux.netDevices: "),
        (("linux", "personality", "flags"), ["ADDR_NO_RANDOMIZE"], "linux.personality.flags: "),
    ],
)
def test_what_this_runtime_cannot_do_is_named(path: Path_, value: object, message: str) -> None:
    with pytest.raises(Unsupported) as raised:
        configs.check(changed(path, value))
    assert raised.value.message.startswith(message)


@pytest.mark.parametrize("name", ["apparmorProfile", "selinuxLabel"])
def test_a_label_that_this_kernel_has_no_use_for_is_refused(name: str) -> None:
    """By check(); the command line drops it before, with a warning."""
    if lsm.has_apparmor() or lsm.has_selinux():
        pytest.skip("this kernel has labels")
    with pytest.raises(Unsupported, match=f"process.{name}: .*not supported"):
        configs.check(changed(("process", name), "label"))


def test_notifying_of_write_is_refused_since_nobody_could_be_told_of_it() -> None:
    rule = {"names": ["mkdir", "write"], "action": "SCMP_ACT_NOTIFY"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x", "syscalls": [rule]}
    with pytest.raises(ConfigInvalid, match="SCMP_ACT_NOTIFY cannot be used for the write syscall"):
        configs.check(changed(("linux", "seccomp"), profile))


@pytest.mark.parametrize("missing,name", [("ipc", "kernel.msgmax"), ("network", "net.ipv4.ip_forward")])
def test_kernel_parameters_need_a_namespace_of_the_containers_own(missing: str, name: str) -> None:
    whole = usual()
    whole["linux"]["sysctl"] = {name: "1"}
    whole["linux"]["namespaces"] = [entry for entry in whole["linux"]["namespaces"] if entry["type"] != missing]
    with pytest.raises(ConfigInvalid, match=name):
        configs.check(whole)


def test_the_hosts_network_namespace_by_path_is_still_the_hosts() -> None:
    whole = usual()
    whole["linux"]["namespaces"][1]["path"] = "/proc/self/ns/net"
    with pytest.raises(ConfigInvalid, match="not allowed in host network namespace"):
        configs.check(whole)


@pytest.mark.parametrize("name", ["hostname", "domainname"])
def test_a_name_needs_a_uts_namespace(name: str) -> None:
    whole = usual()
    whole["linux"]["namespaces"] = [entry for entry in whole["linux"]["namespaces"] if entry["type"] != "uts"]
    whole = {key: value for key, value in whole.items() if key not in ("hostname", "domainname")} | {name: "x"}
    with pytest.raises(ConfigInvalid, match=f"{name}: unable to set {name} without a private UTS namespace"):
        configs.check(whole)


def test_a_domain_by_sysctl_is_the_one_that_is_named() -> None:
    assert usual()["domainname"] == "inn"
    configs.check(changed(("linux", "sysctl"), {"kernel/domainname": "inn"}))
    with pytest.raises(ConfigInvalid, match='"other", but domainname is "inn"'):
        configs.check(changed(("linux", "sysctl"), {"kernel.domainname": "other"}))


@pytest.mark.parametrize(
    "runtime, deadline, period, said",
    [
        (None, 20_000, 20_000, "requires `runtime`"),
        (10_000, None, 20_000, "requires `deadline`"),
        (0, 20_000, 20_000, "runtime must be greater than 0"),
        (10_000, 0, None, "deadline must be greater than 0"),
        (30_000, 20_000, 40_000, "runtime 30000 must be <= deadline 20000"),
        (10_000, 30_000, 20_000, "deadline 30000 must be <= period 20000"),
        (1023, 20_000, None, "runtime 1023 must be between 1024 and"),
        (2**63, 2**63, None, "runtime .* must be between 1024 and"),
        (10_000, 10_000, None, ""),
        (10_000, 20_000, 0, ""),
    ],
)
def test_times_of_a_deadline_fit_together(
    runtime: int | None, deadline: int | None, period: int | None, said: str
) -> None:
    times = {"runtime": runtime, "deadline": deadline, "period": period}
    given = {name: time for name, time in times.items() if time is not None}
    whole = changed(("process", "scheduler"), {"policy": "SCHED_DEADLINE", **given})
    if not said:
        configs.check(whole)
        return
    with pytest.raises(ConfigInvalid, match=f"process.scheduler.*sched_setattr: `SCHED_DEADLINE` {said}"):
        configs.check(whole)


def test_overlapping_maps_are_refused() -> None:
    maps = [{"containerID": 0, "hostID": 0, "size": 10}, {"containerID": 5, "hostID": 100, "size": 1}]
    with pytest.raises(ConfigInvalid, match=r"linux\.uidMappings: the ranges overlap at containerID 5"):
        configs.check(changed(("linux", "uidMappings"), maps))


def test_what_is_passed_over_is_told() -> None:
    told = configs.warnings(changed(("mounts", 0, "destination"), "proc"))
    assert any("ignoring unknown or unavailable capabilities: CAP_NEW" in line for line in told)
    assert any("mount destination proc is not absolute" in line for line in told)


def test_null_counts_as_not_there(tmp_path: Path) -> None:
    whole = usual() | {"hooks": None}
    whole["process"]["consoleSize"] = None
    whole["linux"]["resources"]["memory"]["limit"] = None
    (tmp_path / "config.json").write_text(json.dumps(whole))
    loaded = configs.load(str(tmp_path))
    assert "hooks" not in loaded
    assert "limit" not in loaded["linux"]["resources"]["memory"]


@pytest.mark.parametrize(
    "text,message",
    [
        (b"", "no JSON"),
        (b"[]", "not a JSON object"),
        (b'{"a":', "no JSON"),
        (b"\xff\xfe{", "no JSON"),
        (b'{"ociVersion": 1' + b"0" * 5000 + b"}", "no JSON"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_configuration_at_all_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ConfigInvalid, match=message):
        configs.load(str(tmp_path))


def test_a_bundle_without_configuration_is_named_as_runc_does(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=f"JSON specification file {tmp_path}/config.json not found"):
        configs.load(str(tmp_path))


def test_characters_that_cannot_be_written_are_refused() -> None:
    with pytest.raises(ConfigInvalid, match=r"hostname: holds what is no character"):
        configs.check(changed(("hostname",), "\ud800"))


# ------------------------------------------------------------------ fuzzing

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8)
    | st.sampled_from(["", "/", "SCMP_ACT_ALLOW", "pid", "0-1", "a\0b", 2**64, -1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def _places(value: Any, here: Path_ = ()) -> list[Path_]:
    found = [here] if here else []
    if isinstance(value, dict):
        for name, item in value.items():
            found += _places(item, (*here, name))
    elif isinstance(value, list):
        for index, item in enumerate(value[:3]):
            found += _places(item, (*here, index))
    return found


@settings(deadline=None, max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(_places(usual())), _JSON), min_size=1, max_size=3))
def test_any_value_anywhere_is_taken_or_refused_in_words(changes: list[tuple[Path_, Any]]) -> None:
    whole = usual()
    for path, value in changes:
        part: Any = whole
        try:
            for name in path[:-1]:
                part = part[name]
            part[path[-1]] = value
        except (TypeError, KeyError, IndexError):
            continue  # an earlier change took the place away
    _judge(whole)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from([*usual(), "windows", "x"]), _JSON))
def test_any_object_is_taken_or_refused_in_words(whole: dict[str, Any]) -> None:
    _judge(whole)


def _judge(whole: dict[str, Any]) -> None:
    said = "process: fine"
    try:
        configs.check(whole)
        configs.warnings(whole)
    except (ConfigInvalid, Unsupported) as error:
        said = error.message
    assert ": " in said
    assert "\n" not in said.split(":")[0]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_an_object_or_refused_in_words(text: bytes) -> None:
    with suppress(ConfigInvalid):
        assert isinstance(configs.parse(text), dict)
