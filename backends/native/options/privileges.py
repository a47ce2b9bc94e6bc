"""What a container's program may do: capabilities, and docker's --security-opt."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from backends.container import ContainerSpec
from backends.errors import Unsupported, UsageError
from backends.kernel import linux
from backends.kernel.capability import CAPABILITIES, DEFAULT_CAPABILITIES, names_of
from backends.kernel.lsm import has_selinux
from backends.native import apparmor

MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
    "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_ALL = "ALL"
_HINT = "no-new-privileges, seccomp=, apparmor=, label=, systempaths=unconfined, mask=, unmask="


def capabilities(asked: ContainerSpec) -> list[str]:
    """Return what the program gets, as docker reckons it. Raises UsageError, Unsupported."""
    host = host_capabilities(full=asked.userns != "host")
    added = _names("--cap-add", asked.cap_add)
    dropped = _names("--cap-drop", asked.cap_drop)
    if asked.privileged:
        return host
    for name in added:
        if name != _ALL and name not in host:
            raise Unsupported(f"--cap-add: this host does not have {name} to give")
    if _ALL in added:
        return [name for name in host if name not in dropped]
    kept = [] if _ALL in dropped else [name for name in DEFAULT_CAPABILITIES if name not in dropped]
    return list(dict.fromkeys([*(name for name in kept if name in host), *added]))


def host_capabilities(*, full: bool = False) -> list[str]:
    """Return what this process could give away; full: all that the kernel knows, as in a user namespace."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        known = CAPABILITIES[: int(file.read()) + 1]
    if full or os.geteuid() != 0:
        return known
    return [name for name in names_of(linux.capget().permitted) if name in known]


def all_privileges(config: Mapping[str, Any], process: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return config.json and its process for `exec --privileged`: all capabilities, no filter and no profile."""
    part = {key: value for key, value in config["linux"].items() if key != "seccomp"}
    freed = {key: value for key, value in process.items() if key not in ("apparmorProfile", "selinuxLabel")}
    has_userns = any(entry["type"] == "user" for entry in part["namespaces"])
    granted = host_capabilities(full=has_userns)
    freed["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), granted)
    freed["noNewPrivileges"] = False
    return {**config, "linux": part}, freed


def _names(option: str, given: Iterable[str]) -> list[str]:
    found = []
    for text in given:
        for word in text.upper().split(","):
            name = word if word == _ALL or word.startswith("CAP_") else f"CAP_{word}"
            if name != _ALL and name not in CAPABILITIES:
                raise UsageError(f"{option}: {text!r} is no capability", hint="see capabilities(7)")
            found.append(name)
    return found


@dataclass(frozen=True, slots=True)
class Security:
    """What --security-opt and --privileged come to."""

    no_new_privileges: bool = True
    seccomp: str = "builtin"
    """"builtin", "unconfined" or a file."""

    apparmor: str | None = None
    """A profile by its name, "unconfined", or None: the usual."""

    label: str | None = None
    """SELinux label of its processes."""

    masked: tuple[str, ...] = MASKED_PATHS
    readonly: tuple[str, ...] = READONLY_PATHS
    unmasked: tuple[str, ...] = field(default=())


def security(asked: ContainerSpec) -> Security:
    """Return what holds for a container. Raises UsageError, Unsupported."""
    found = Security()
    if asked.privileged:
        found = Security(no_new_privileges=False, seccomp="unconfined", apparmor="unconfined", masked=(), readonly=())
    labels = []
    for option in asked.security_opts:
        key, value = _split(option)
        if key == "label":
            labels.append(value)
        else:
            found = _with(found, option, key, value)
    found = replace(found, label=_label(labels))
    return replace(
        found, masked=_without(found.masked, found.unmasked), readonly=_without(found.readonly, found.unmasked)
    )


def _with(found: Security, option: str, key: str, value: str) -> Security:
    if key == "no-new-privileges" and value in ("", "true", "false"):
        return replace(found, no_new_privileges=value != "false")
    if key == "seccomp" and value:
        return replace(found, seccomp=value)
    if key == "apparmor" and value:
        if value != "unconfined":
            apparmor.check(value)
        return replace(found, apparmor=value)
    if key == "systempaths" and value == "unconfined":
        return replace(found, masked=(), readonly=())
    if key == "mask" and value.startswith("/"):
        return replace(found, masked=(*found.masked, *value.split(":")))
    if key == "unmask" and value:
        return replace(found, unmasked=(*found.unmasked, *value.split(":")))
    raise UsageError(f"security option {option!r} is not known", hint=_HINT)


def _without(paths: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    if any(pattern.upper() == _ALL for pattern in patterns):
        return ()
    return tuple(path for path in paths if not any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns))


def _label(words: Sequence[str]) -> str | None:
    """Return the SELinux label made of docker's "user:U", "role:R", "type:T", "level:L"; None for "disable"."""
    if not words or "disable" in words:
        return None
    parts = {"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0"}
    for word in words:
        key, colon, value = word.partition(":")
        if key not in parts or not colon or not value:
            raise UsageError(f"security option 'label={word}' is not known", hint="label=disable, label=type:TYPE …")
        parts[key] = value
    if not has_selinux():
        raise Unsupported("security option 'label': this kernel runs without SELinux")
    return ":".join(parts.values())


def _split(option: str) -> tuple[str, str]:
    separator = "=" if "=" in option else ":"
    key, _, value = option.partition(separator)
    return key, value
