"""The OCI config.json of a container (github.com/opencontainers/runtime-spec, config-linux.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from backends.container import ContainerSpec
from backends.errors import UsageError
from backends.kernel.devices import DeviceRule
from backends.model import Limits
from backends.native import apparmor
from backends.native.options import (
    devices,
    first_process,
    mounts,
    names,
    namespaces,
    ports,
    privileges,
    rlimits,
    seccomp_file,
)
from backends.native.record import limits_from_json, limits_to_json
from backends.native.seccomp_profile import default_profile

LIMITS_KEY = "io.innkeeper.limits"
"""Annotation that holds the limits exactly; linux.resources says the same to other tools, rounded."""

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CPU_PERIOD_US = 100_000

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


def check_name(name: str) -> str:
    """Return the name if a guest or image may have it. Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no valid name", hint="letters, digits, '_', '.', '-'; first a letter or digit; at most 128"
        )
    return name


def check_program(args: Sequence[str], env: Sequence[str], cwd: str | None) -> None:
    """Raise UsageError for what no kernel can run: NUL bytes, variables without a name, a relative folder."""
    bad = [entry for entry in env if "=" not in entry or entry.startswith("=") or "\0" in entry]
    if bad:
        raise UsageError(f"variable {bad[0]!r} is not NAME=VALUE")
    if any("\0" in text for text in (*args, cwd or "")):
        raise UsageError("a program, its arguments and its folder cannot hold NUL bytes")
    if cwd and not cwd.startswith("/"):
        raise UsageError(f"the working directory {cwd!r} is not an absolute path")


def check(asked: ContainerSpec) -> None:
    """Raise UsageError or Unsupported for what makes no sense, alone or together, before anything is made."""
    namespaces.check(asked)
    names.check(asked)
    ports.check(asked.publish)
    ports.check_exposed(asked.expose)
    first_process.check(asked)
    if asked.auto_remove and asked.restart.name != "no":
        raise UsageError("--rm and --restart do not go together: what is removed cannot start again")
    rlimits.check_oom_score(asked.oom_score_adj)
    if asked.stop_timeout_s is not None and asked.stop_timeout_s < 0:
        raise UsageError("the time to stop cannot be negative")
    if asked.shm_bytes is not None and asked.shm_bytes < 4096:
        raise UsageError("/dev/shm cannot be smaller than 4096 bytes")
    reserved = [key for key in asked.annotations if not key or key.startswith("io.innkeeper.")]
    if reserved:
        raise UsageError(f"annotation {reserved[0]!r} cannot be set")
    secret_names = [secret.name for secret in asked.secrets]
    for name in secret_names:
        check_name(name)
        if secret_names.count(name) > 1:
            raise UsageError(f"two secrets are named {name}")


def build(
    container_id: str,
    asked: ContainerSpec,
    of_image: Sequence[mounts.Mount],
    cgroup: str,
    files: Mapping[str, str],
    volumes: Mapping[str, str],
) -> dict[str, Any]:
    """Return the config.json of a new container that check() had nothing against.

    asked has what it takes from its image already (options/of_image.py); of_image are the mounts that come with it.
    files maps paths in the container to generated files on the host (/etc/hosts …) that are bound there, volumes to
    the folders of its own volumes.
    Raises UsageError and Unsupported for what makes no sense or cannot be had.
    """
    args = _arguments(asked)
    security = privileges.security(asked)
    nodes, rules = devices.devices(asked)
    found = mounts.mounts(asked, of_image, files, volumes)
    config: dict[str, Any] = {
        "ociVersion": "1.2.0",
        "process": _process(container_id, asked, args, security),
        "root": {"path": "rootfs", "readonly": asked.read_only},
        "hostname": namespaces.hostname(container_id, asked),
        "mounts": found,
        "linux": {
            "namespaces": namespaces.namespaces(asked),
            "cgroupsPath": cgroup,
            "resources": resources(asked.limits) | {"devices": rules},
            "devices": nodes,
            "sysctl": namespaces.sysctls(asked),
            "maskedPaths": list(security.masked),
            "readonlyPaths": list(security.readonly),
        },
        "annotations": {LIMITS_KEY: json.dumps(limits_to_json(asked.limits)), **asked.annotations},
    }
    if asked.uts_mode == "host":
        del config["hostname"]
    if profile := _filter(security, config["process"]["capabilities"]["bounding"]):
        config["linux"]["seccomp"] = profile
    if propagation := mounts.root_propagation(found):
        config["linux"]["rootfsPropagation"] = propagation
    if security.label:
        config["linux"]["mountLabel"] = security.label
    return config


def _arguments(asked: ContainerSpec) -> list[str]:
    check_program(asked.args, asked.env, asked.cwd)
    return [*first_process.arguments(), *asked.args] if asked.init else list(asked.args)


def _process(
    container_id: str, asked: ContainerSpec, args: Sequence[str], security: privileges.Security
) -> dict[str, Any]:
    granted = privileges.capabilities(asked)
    user: dict[str, Any] = {"uid": 0, "gid": 0}
    if groups := [int(group) for group in asked.groups if _is_number(group)]:
        user["additionalGids"] = groups
    if by_name := [group for group in asked.groups if not _is_number(group)]:
        user["additionalGroups"] = by_name
    process: dict[str, Any] = {
        "terminal": asked.terminal,
        "user": user,
        "args": list(args),
        "env": _environment(container_id, asked),
        "cwd": asked.cwd or "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), granted),
        "oomScoreAdj": asked.oom_score_adj or 0,
        "rlimits": rlimits.rlimits(asked.ulimits),
        "noNewPrivileges": security.no_new_privileges,
    }
    profile = security.apparmor or apparmor.default_profile()
    if profile and profile != "unconfined":
        process["apparmorProfile"] = profile
    if security.label:
        process["selinuxLabel"] = security.label
    return process


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def _filter(security: privileges.Security, capabilities: Sequence[str]) -> dict[str, Any] | None:
    if security.seccomp == "unconfined":
        return None
    if security.seccomp == "builtin":
        return default_profile(capabilities)
    profile = seccomp_file.read(security.seccomp, capabilities)
    seccomp_file.check(profile, security.seccomp)
    return profile


def limits_of(config: Mapping[str, Any]) -> Limits:
    """Return the limits that a config.json asks for."""
    return limits_from_json(json.loads(config.get("annotations", {}).get(LIMITS_KEY, "{}")))


def with_limits(config: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Return the config.json with other limits."""
    changed = json.loads(json.dumps(config))
    devices = changed["linux"]["resources"].get("devices", [])
    changed["linux"]["resources"] = resources(limits) | {"devices": devices}
    changed.setdefault("annotations", {})[LIMITS_KEY] = json.dumps(limits_to_json(limits))
    return dict(changed)


def resources(limits: Limits) -> dict[str, Any]:
    """Return limits as `linux.resources`, as far as the specification has words for them."""
    cpu: dict[str, Any] = {}
    if limits.cpus is not None:
        cpu |= {"quota": round(limits.cpus * CPU_PERIOD_US), "period": CPU_PERIOD_US}
    if limits.cpuset is not None:
        cpu["cpus"] = limits.cpuset
    memory: dict[str, Any] = {}
    if limits.memory_bytes is not None:
        memory["limit"] = limits.memory_bytes
        if limits.swap_bytes is not None:
            memory["swap"] = limits.memory_bytes + limits.swap_bytes
    unified = {}
    if limits.cpu_weight is not None:
        unified["cpu.weight"] = str(limits.cpu_weight)
    if limits.memory_high_bytes is not None:
        unified["memory.high"] = str(limits.memory_high_bytes)
    found: dict[str, Any] = {"cpu": cpu, "memory": memory, "unified": unified}
    if limits.pids is not None:
        found["pids"] = {"limit": limits.pids}
    return {key: value for key, value in found.items() if value}


def device_rules(config: Mapping[str, Any]) -> tuple[DeviceRule, ...]:
    """Return what linux.resources.devices allows. The first entry denies all; later denials are not supported."""
    entries = config["linux"]["resources"].get("devices", [])
    return tuple(
        DeviceRule(entry["type"], entry.get("major"), entry.get("minor"), entry["access"])
        for entry in entries
        if entry["allow"]
    )


def _environment(container_id: str, asked: ContainerSpec) -> list[str]:
    entries = [DEFAULT_PATH, f"HOSTNAME={namespaces.hostname(container_id, asked)}", *asked.env]
    if asked.terminal:
        entries.insert(0, "TERM=xterm")
    return list({entry.partition("=")[0]: entry for entry in entries}.values())
