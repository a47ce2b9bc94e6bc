"""The OCI config.json of a container (github.com/opencontainers/runtime-spec, config-linux.md)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from backends.container import ContainerSpec
from backends.errors import UsageError
from backends.kernel.credentials import DEFAULT_CAPABILITIES
from backends.kernel.devices import DEFAULT_RULES, DeviceRule
from backends.model import Limits
from backends.native.images.image import ImageConfig
from backends.native.record import limits_from_json, limits_to_json
from backends.native.seccomp_profile import default_profile

LIMITS_KEY = "io.innkeeper.limits"
"""Annotation that holds the limits exactly; linux.resources says the same to other tools, rounded."""

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CPU_PERIOD_US = 100_000

MASKED_PATHS = [
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
    "/sys/devices/virtual/powercap", "/sys/firmware",
]  # fmt: skip
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

NAMESPACES = ["pid", "network", "ipc", "uts", "mount", "cgroup"]

_MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
     "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
     "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
     "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
]  # fmt: skip

_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9.-]{0,62}[a-zA-Z0-9])?")
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


def build(
    container_id: str, asked: ContainerSpec, image: ImageConfig, cgroup: str, files: Mapping[str, str]
) -> dict[str, Any]:
    """Return the config.json of a new container.

    files maps paths in the container to generated files on the host (/etc/hosts …) that are bound there.
    Raises UsageError for volumes and variables that make no sense.
    """
    args = list(asked.args) or image.command
    check_program(args, asked.env, asked.cwd)
    if asked.hostname is not None and not _HOSTNAME.fullmatch(asked.hostname):
        raise UsageError(f"{asked.hostname!r} is no host name", hint="letters, digits, '-', '.'; at most 64")
    if not args:
        raise UsageError(f"image {asked.image} names no program to run", hint="give one after the image")
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": asked.terminal,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": _environment(container_id, asked, image),
            "cwd": asked.cwd or image.cwd or "/",
            "capabilities": {name: list(DEFAULT_CAPABILITIES) for name in ("bounding", "effective", "permitted")},
            "oomScoreAdj": 0,
            "rlimits": [],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": asked.read_only},
        "hostname": asked.hostname or container_id,
        "mounts": [*_MOUNTS, *image.mounts, *(_bind(path, source) for path, source in files.items()),
                   *(parse_volume(volume) for volume in asked.volumes)],
        "linux": {
            "namespaces": [{"type": name} for name in NAMESPACES],
            "cgroupsPath": cgroup,
            "resources": resources(asked.limits) | {"devices": _devices()},
            "maskedPaths": MASKED_PATHS,
            "readonlyPaths": READONLY_PATHS,
            "seccomp": default_profile(),
        },
        "annotations": {LIMITS_KEY: json.dumps(limits_to_json(asked.limits))},
    }  # fmt: skip


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


def _devices() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for rule in DEFAULT_RULES:
        numbers = {"major": rule.major, "minor": rule.minor}
        known = {name: number for name, number in numbers.items() if number is not None}
        entries.append({"allow": True, "type": rule.device_type, **known, "access": rule.access})
    return entries


def parse_volume(text: str) -> dict[str, Any]:
    """Turn "/host:/guest[:ro]" into an OCI mount. Raises UsageError."""
    source, _, rest = text.partition(":")
    destination, _, mode = rest.partition(":")
    if not source.startswith("/") or not destination.startswith("/") or mode not in ("", "ro", "rw"):
        raise UsageError(f"volume {text!r} is not HOST:GUEST or HOST:GUEST:ro", hint="both paths must be absolute")
    place = os.path.normpath("/" + destination.lstrip("/"))
    if place == "/" or f"{place}/".startswith("/proc/"):
        raise UsageError(f"volume {text!r}: nothing can be put in the place of {destination}")
    if not os.path.exists(source):
        raise UsageError(f"volume {text!r}: there is no {source} on the host")
    return _bind(destination, source, mode or "rw", recursive=True)


def _bind(destination: str, source: str, mode: str = "rw", *, recursive: bool = False) -> dict[str, Any]:
    options = ["rbind" if recursive else "bind", "rprivate", mode]
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def _environment(container_id: str, asked: ContainerSpec, image: ImageConfig) -> list[str]:
    entries = [DEFAULT_PATH, f"HOSTNAME={asked.hostname or container_id}", *image.env, *asked.env]
    if asked.terminal:
        entries.insert(0, "TERM=xterm")
    return list({entry.partition("=")[0]: entry for entry in entries}.values())
