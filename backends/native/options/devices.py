"""Device nodes of a container, and which devices its processes may open."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from backends.container import ContainerSpec
from backends.errors import UsageError
from backends.kernel.devices import DEFAULT_RULES

Entry = dict[str, Any]

_RULE = re.compile(r"([acb]) ([0-9]{1,8}|\*):([0-9]{1,8}|\*) ([rwm]{1,3})")
_ACCESS = re.compile(r"[rwm]{1,3}")
_SKIPPED = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx"})
"""As docker: what a container has of its own, and the host's console."""

_USUAL = frozenset(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty"))
"""Every container has these without being asked."""


def devices(asked: ContainerSpec) -> tuple[list[Entry], list[Entry]]:
    """Return `linux.devices` and `linux.resources.devices`. Raises UsageError."""
    nodes = {node["path"]: node for node in (_host_devices() if asked.privileged else ())}
    rules = [{"allow": True, "type": "a", "access": "rwm"}] if asked.privileged else _default_rules()
    for text in asked.devices:
        for node, access in parse_device(text):
            nodes[node["path"]] = node
            rules.append(_rule_of(node, access))
    rules += [parse_rule(text) for text in asked.device_rules]
    return [node for path, node in nodes.items() if path not in _USUAL], rules


def as_now(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config.json of a privileged container with what devices the host has got since it was made."""
    part = config["linux"]
    nodes = {node["path"]: node for node in (*_host_devices(), *(part.get("devices") or ()))}
    return {**config, "linux": {**part, "devices": [node for path, node in nodes.items() if path not in _USUAL]}}


def parse_device(text: str) -> list[tuple[Entry, str]]:
    """Turn "/dev/host[:/dev/guest[:rwm]]" into nodes and how they may be used; a folder stands for all in it."""
    source, guest, access = _parts(text)
    try:
        real = os.path.realpath(source, strict=True)
        mode = os.stat(real).st_mode
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"device {text!r}: {source!r}: {said}") from error
    if stat.S_ISDIR(mode):
        if not f"{real}/".startswith("/dev/"):
            raise UsageError(f"device {text!r}: a folder of devices is in /dev")
        found = [_node(path, guest + path[len(real) :]) for path in _below(real)]
        if not found:
            raise UsageError(f"device {text!r}: there is no device in {source}")
        return [(node, access) for node in found]
    if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
        raise UsageError(f"device {text!r}: {source} is not a device node")
    return [(_node(real, guest), access)]


def parse_rule(text: str) -> Entry:
    """Turn "c 10:200 rwm" into an entry of `linux.resources.devices`. Raises UsageError."""
    found = _RULE.fullmatch(text)
    if not found:
        raise UsageError(f"device rule {text!r} makes no sense", hint="'c 10:200 rwm', 'b 8:* r', 'a *:* rwm'")
    numbers = {name: int(value) for name, value in (("major", found[2]), ("minor", found[3])) if value != "*"}
    return {"allow": True, "type": found[1], **numbers, "access": found[4]}


def _parts(text: str) -> tuple[str, str, str]:
    parts = text.split(":")
    source, guest, access = parts[0], parts[0], "rwm"
    if len(parts) == 2 and not parts[1].startswith("/"):
        access = parts[1]
    elif len(parts) >= 2:
        guest = parts[1] or source
        access = parts[2] if len(parts) == 3 else access
    if len(parts) > 3 or not source.startswith("/") or not guest.startswith("/") or not _ACCESS.fullmatch(access):
        raise UsageError(f"device {text!r} is not HOST[:GUEST[:rwm]]", hint="--device /dev/fuse, /dev/sda:/dev/x:r")
    return source, os.path.normpath("/" + guest.lstrip("/")), access


def _host_devices() -> list[Entry]:
    return [_node(path, path) for path in _below("/dev")]


def _below(folder: str) -> Iterator[str]:
    """Yield the device nodes in a folder and in those below it; symlinks are not followed."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda each: each.name)
    except OSError:
        return  # it went meanwhile, or is nothing that we may look into
    for entry in entries:
        with suppress(FileNotFoundError):
            if entry.is_symlink() or entry.name in _SKIPPED:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path)
            else:
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                    yield entry.path


def _node(source: str, path: str) -> Entry:
    found = os.stat(source)
    return {
        "path": path,
        "type": "c" if stat.S_ISCHR(found.st_mode) else "b",
        "major": os.major(found.st_rdev),
        "minor": os.minor(found.st_rdev),
        "fileMode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
    }


def _rule_of(node: Entry, access: str) -> Entry:
    return {"allow": True, "type": node["type"], "major": node["major"], "minor": node["minor"], "access": access}


def _default_rules() -> list[Entry]:
    entries: list[Entry] = [{"allow": False, "access": "rwm"}]
    for rule in DEFAULT_RULES:
        numbers = {"major": rule.major, "minor": rule.minor}
        known = {name: number for name, number in numbers.items() if number is not None}
        entries.append({"allow": True, "type": rule.device_type, **known, "access": rule.access})
    return entries
