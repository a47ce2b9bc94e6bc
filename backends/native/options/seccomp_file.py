"""A seccomp filter out of a file: OCI's `linux.seccomp`, or docker's profile with its conditions."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Collection, Mapping
from typing import Any

from backends.errors import Unsupported, UsageError, os_error_text

_MOST_BYTES = 4 << 20
_OCI_KEYS = ("defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata")
_ARCHES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "x86", "loongarch64": "loong64"}
"""docker's names of machines, which are Go's."""


def read(path: str, capabilities: Collection[str]) -> dict[str, Any]:
    """Return the filter in a file as `linux.seccomp` has it. Raises UsageError."""
    what = f"seccomp profile {path}"
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"seccomp profile: {os_error_text(error)}") from error
    except ValueError as error:  # a NUL byte in the path
        raise UsageError(f"seccomp profile {path!r}: {error}") from error
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{what} is larger than {_MOST_BYTES >> 20} MiB")
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{what} is no JSON: {error}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("defaultAction"), str):
        raise UsageError(f"{what} has no defaultAction")
    try:
        return _profile(raw, capabilities)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise UsageError(f"{what} is no seccomp profile: {error}") from error


def check(profile: Mapping[str, Any], path: str) -> None:
    """Raise UsageError for a filter that the runtime would refuse when the container starts."""
    from backends.kernel import seccomp
    from backends.oci import config
    from backends.oci.errors import ConfigInvalid

    try:
        process = {"args": ["/"], "cwd": "/"}
        config.check({"ociVersion": "1.2.0", "root": {"path": "/"}, "process": process, "linux": {"seccomp": profile}})
        seccomp.compile_filter(profile)
    except (ConfigInvalid, Unsupported) as error:
        raise UsageError(f"seccomp profile {path}: {error.message.splitlines()[0]}") from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UsageError(f"seccomp profile {path} cannot be compiled: {error}") from error


def _profile(raw: Mapping[str, Any], capabilities: Collection[str]) -> dict[str, Any]:
    found: dict[str, Any] = {key: raw[key] for key in _OCI_KEYS if raw.get(key)}
    if "archMap" in raw and "architectures" in found:
        raise ValueError("it has both archMap and architectures")
    if raw.get("archMap"):
        found["architectures"] = _architectures(raw["archMap"])
    rules = [_rule(rule) for rule in raw.get("syscalls") or () if _holds(rule, capabilities)]
    found["syscalls"] = [rule for rule in rules if rule["names"]]
    return found


def _architectures(entries: list[Mapping[str, Any]]) -> list[str]:
    own = f"SCMP_ARCH_{platform.machine().upper()}"
    for entry in entries:
        if entry["architecture"] == own:
            return [own, *entry.get("subArchitectures", ())]
    return []


def _holds(rule: Mapping[str, Any], capabilities: Collection[str]) -> bool:
    """Say whether the rule's conditions fit this host and container."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    arch = _ARCHES.get(platform.machine(), platform.machine())
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if any(name not in capabilities for name in includes.get("caps") or ()):
        return False
    if includes.get("minKernel") and _kernel() < _version(includes["minKernel"]):
        return False
    if arch in (excludes.get("arches") or ()) or any(name in capabilities for name in excludes.get("caps") or ()):
        return False
    return not (excludes.get("minKernel") and _kernel() >= _version(excludes["minKernel"]))


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    names = list(rule.get("names") or ())
    names += [rule["name"]] if rule.get("name") else []
    found: dict[str, Any] = {"names": names, "action": rule["action"]}
    if rule.get("errnoRet") is not None:
        found["errnoRet"] = rule["errnoRet"]
    if rule.get("args"):
        found["args"] = [{key: value for key, value in arg.items() if value is not None} for arg in rule["args"]]
    return found


def _kernel() -> tuple[int, int]:
    return _version(platform.release())


def _version(text: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", text)
    if found is None:
        raise ValueError(f"{text!r} is no version of a kernel")
    return int(found[1]), int(found[2])
