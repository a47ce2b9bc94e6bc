"""Every property of an OCI config.json for Linux (runtime-spec 1.2, config.md and config-linux.md), as one table.

What one property may be by itself; what properties must be to one another is in relations.py.
"""

from __future__ import annotations

from backends.kernel.credentials import RLIMITS
from backends.oci.resource_properties import cpu_list, device_number
from backends.oci.resource_properties import resources as resources
from backends.oci.schema import (
    Check,
    Refused,
    absolute,
    absolute_or_empty,
    any_string,
    array,
    boolean,
    filled,
    formed,
    int32,
    int64,
    integer,
    mapping,
    record,
    string,
    uint16,
    uint32,
    uint64,
    word,
)


def words(prefix: str, names: str) -> tuple[str, ...]:
    """Return the words of a text, each with a prefix."""
    return tuple(prefix + name for name in names.split())


NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
PROPAGATION = ("shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable")
SCHEDULER_POLICIES = words("SCHED_", "OTHER FIFO RR BATCH ISO IDLE DEADLINE")
SCHEDULER_FLAGS = words(
    "SCHED_FLAG_", "RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX"
)
IO_CLASSES = ("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")
MEMORY_MODES = words("MPOL_", "DEFAULT PREFERRED BIND INTERLEAVE LOCAL PREFERRED_MANY WEIGHTED_INTERLEAVE")
MEMORY_FLAGS = ("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES")
SECCOMP_ACTIONS = words("SCMP_ACT_", "KILL KILL_PROCESS KILL_THREAD TRAP ERRNO TRACE ALLOW LOG NOTIFY")
SECCOMP_OPERATORS = words("SCMP_CMP_", "NE LT LE EQ GE GT MASKED_EQ")
SECCOMP_ARCHITECTURES = words(
    "SCMP_ARCH_",
    "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X "
    "PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB",
)
SECCOMP_FLAGS = words("SECCOMP_FILTER_FLAG_", "TSYNC LOG SPEC_ALLOW WAIT_KILLABLE_RECV")
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

_strings = array(string)


def _nodes(value: object) -> None:
    try:
        cpu_list(value)
    except Refused as error:
        raise Refused(f"invalid memory policy node: {error}") from None


_user_id = integer(0, 2**32 - 2)  # the highest is -1, "no change" to setresuid(2)

id_mappings = array(
    record(
        {"containerID": uint32, "hostID": uint32, "size": integer(1, 2**32 - 1)},
        {"containerID": "", "hostID": "", "size": ""},
    )
)


def _working_directory(value: object) -> None:
    string(value)
    if not value:
        raise Refused("Cwd property must not be empty")
    if not str(value).startswith("/"):
        raise Refused("Cwd must be an absolute path")


def _variable(value: object) -> None:
    string(value)
    name, equals, _ = str(value).partition("=")
    if not equals:
        raise Refused("invalid environment variable: missing '='")
    if not name:
        raise Refused("invalid environment variable: name cannot be empty")


capabilities = record(dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), _strings))

user = record(
    {
        "uid": _user_id,
        "gid": _user_id,
        "umask": integer(0, 0o777),
        "additionalGids": array(_user_id),
        "username": any_string,
    }
)

scheduler = record(
    {
        "policy": word(SCHEDULER_POLICIES, "invalid scheduler policy: {}"),
        "nice": int32,
        "priority": int32,
        "flags": array(word(SCHEDULER_FLAGS, "invalid scheduler flag: {}")),
        "runtime": uint64,
        "deadline": uint64,
        "period": uint64,
    },
    {"policy": "scheduler policy is required"},
)

process = record(
    {
        "terminal": boolean,
        "consoleSize": record({"height": uint16, "width": uint16}, {"height": "", "width": ""}),
        "user": user,
        "args": array(string, filled_with="args must not be empty"),
        "commandLine": any_string,
        "env": array(_variable),
        "cwd": _working_directory,
        "capabilities": capabilities,
        "rlimits": array(
            record(
                {"type": word(RLIMITS, "wrong rlimit value: {}"), "hard": uint64, "soft": uint64},
                {"type": "", "hard": "", "soft": ""},
            )
        ),
        "noNewPrivileges": boolean,
        "apparmorProfile": string,
        "oomScoreAdj": integer(-1000, 1000),
        "scheduler": scheduler,
        "selinuxLabel": string,
        "ioPriority": record(
            {"class": word(IO_CLASSES, "invalid ioPriority.Class: {}"), "priority": integer(0, 7)},
            {"class": ""},
        ),
        "execCPUAffinity": record({"initial": cpu_list, "final": cpu_list}),
    },
    {"args": "args must not be empty", "cwd": "Cwd property must not be empty"},
)

mount = record(
    {
        "destination": filled,
        "type": string,
        "source": string,
        "options": _strings,
        "uidMappings": id_mappings,
        "gidMappings": id_mappings,
    },
    {"destination": ""},
)

_hook = record(
    {"path": absolute, "args": _strings, "env": array(_variable), "timeout": integer(1, 2**31 - 1)}, {"path": ""}
)
hooks = record({name: array(_hook) for name in HOOKS})

_profile = record(
    {
        "defaultAction": word(SECCOMP_ACTIONS, "string {} is not a valid action for seccomp"),
        "defaultErrnoRet": integer(0, 4095),
        "architectures": array(word(SECCOMP_ARCHITECTURES, "string {} is not a valid arch for seccomp")),
        "flags": array(word(SECCOMP_FLAGS, "seccomp flag {} is not known")),
        "listenerPath": absolute_or_empty,
        "listenerMetadata": any_string,
        "syscalls": array(
            record(
                {
                    "names": array(filled, filled_with="must not be empty"),
                    "action": word(SECCOMP_ACTIONS, "string {} is not a valid action for seccomp"),
                    "errnoRet": integer(0, 4095),
                    "args": array(
                        record(
                            {
                                "index": integer(0, 5),
                                "value": uint64,
                                "valueTwo": uint64,
                                "op": word(SECCOMP_OPERATORS, "string {} is not a valid operator for seccomp"),
                            },
                            {"index": "", "value": "", "op": ""},
                        )
                    ),
                },
                {"names": "", "action": ""},
            )
        ),
    },
    {"defaultAction": ""},
)


def seccomp(value: object) -> None:
    """Take a profile, or one that says nothing, which switches filtering off as in runc."""
    if not isinstance(value, dict) or value.get("defaultAction") or value.get("syscalls"):
        _profile(value)


_device = record(
    {
        "path": absolute,
        "type": word(("c", "b", "u", "p"), 'invalid device type "{}"'),
        "major": device_number,
        "minor": device_number,
        "fileMode": uint32,
        "uid": uint32,
        "gid": uint32,
    },
    {"path": "", "type": ""},
)

_offset = record({"secs": int64, "nanosecs": integer(0, 999_999_999)})

linux: Check = record(
    {
        "uidMappings": id_mappings,
        "gidMappings": id_mappings,
        "sysctl": mapping(string, filled),
        "resources": resources,
        "cgroupsPath": string,
        "namespaces": array(
            record({"type": word(NAMESPACES, 'namespace "{}" does not exist'), "path": absolute_or_empty}, {"type": ""})
        ),
        "devices": array(_device),
        "netDevices": mapping(record({"name": string}), filled),
        "seccomp": seccomp,
        "rootfsPropagation": word((*PROPAGATION, ""), "rootfsPropagation={} is not supported"),
        "maskedPaths": array(absolute),
        "readonlyPaths": array(absolute),
        "mountLabel": string,
        "intelRdt": record(
            dict.fromkeys(("closID", "l3CacheSchema", "memBwSchema"), string)
            | {"schemata": _strings, "enableMonitoring": boolean}
            | dict.fromkeys(("enableCMT", "enableMBM"), boolean)
        ),
        "memoryPolicy": record(
            {
                "mode": word(MEMORY_MODES, 'invalid memory policy mode "{}"'),
                "nodes": _nodes,
                "flags": array(word(MEMORY_FLAGS, 'invalid memory policy flag "{}"')),
            },
            {"mode": "invalid memory policy mode: there is none"},
        ),
        "personality": record(
            {"domain": word(("LINUX", "LINUX32"), "invalid personality domain {}"), "flags": _strings},
            {"domain": ""},
        ),
        "timeOffsets": mapping(_offset, word(("monotonic", "boottime"))),
    }
)


def _is_version(text: str) -> bool:
    """Say whether it is a version by semver.org; by hand, for to load `re` takes longer than all checks."""
    at = next((index for index, letter in enumerate(text) if letter in "-+"), len(text))
    numbers, rest = text[:at].split("."), text[at + 1 :]
    is_plain = len(numbers) == 3 and all(number.isascii() and number.isdigit() for number in numbers)
    letters = rest.translate({ord(sign): None for sign in ".+-"})
    return is_plain and (at == len(text) or (bool(rest) and (not letters or (letters.isascii() and letters.isalnum()))))


config: Check = record(
    {
        "ociVersion": formed(_is_version, "a version such as 1.2.0"),
        "process": process,
        "root": record({"path": filled, "readonly": boolean}, {"path": ""}),
        "hostname": string,
        "domainname": string,
        "mounts": array(mount),
        "hooks": hooks,
        "annotations": mapping(any_string, filled),
        "linux": linux,
    },
    {
        "ociVersion": "",
        "process": "process property must not be empty",
        "root": "root must be specified",
    },
)
