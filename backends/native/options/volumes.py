"""Volumes and memory file systems in docker's words: -v, --mount, --tmpfs.

A mount whose source is empty is of a volume: a named one has its name in `volume`, and `nocopy` where it is to begin
empty; one without is the container's own. Who builds config.json puts the folder in.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any

from backends.errors import UsageError

_PROPAGATION = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_FLAGS = frozenset({"nosuid", "suid", "nodev", "dev", "noexec", "exec"})
_NOTHING_TO_DO = frozenset({"z", "Z", "cached", "delegated", "consistent", "nocopy", "bind", "rbind"})
"""For SELinux, for other systems, and for named volumes."""

VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")

_TMPFS = ("noexec", "nosuid", "nodev")
_OPPOSITES = {"exec": "noexec", "suid": "nosuid", "dev": "nodev", "ro": "rw", "sync": "async", "atime": "noatime"}
_OPPOSITES |= {no: yes for yes, no in _OPPOSITES.items()}
_TMPFS_FLAGS = frozenset(_OPPOSITES) | {"relatime", "strictatime", "nodiratime", "lazytime", "tmpcopyup"}
_TMPFS_HINT = "size=64m, mode=1777, uid=, gid=, exec …"
_TMPFS_VALUES = {
    "size": r"[0-9]{1,19}[kmg%]?", "mode": r"[0-7]{1,4}", "uid": r"[0-9]{1,10}", "gid": r"[0-9]{1,10}",
    "nr_inodes": r"[0-9]{1,19}[kmg]?", "nr_blocks": r"[0-9]{1,19}[kmg]?", "huge": r"never|always|within_size|advise",
}  # fmt: skip


def parse_volume(text: str) -> dict[str, Any]:
    """Turn "/host:/guest[:ro,rslave,…]" or "NAME:/guest[:ro,nocopy]" into an OCI mount. Raises UsageError."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not (parts[0] and parts[1].startswith("/")):
        hint = "both paths must be absolute; NAME is a volume's"
        raise UsageError(f"volume {text!r} is not HOST:GUEST, NAME:GUEST or either with :ro", hint=hint)
    given = [word for word in parts[2].split(",") if word] if len(parts) == 3 else []
    if not parts[0].startswith("/"):
        return _volume_mount(f"volume {text!r}", parts[0], parts[1], given)
    return _bind_mount(f"volume {text!r}", parts[0], parts[1], given)


def parse_mount(text: str) -> dict[str, Any]:
    """Turn docker's "type=bind|volume,source=…,target=…" or "type=tmpfs,…" into an OCI mount. Raises UsageError."""
    pairs = (part.partition("=") for part in text.split(","))
    given = {key.strip().lower(): value if equals else "true" for key, equals, value in pairs}
    kind = given.pop("type", "volume")
    target = _first(given, "target", "destination", "dst")
    source = _first(given, "source", "src")
    if not target:
        raise UsageError(f"mount {text!r} has no target=PATH")
    if kind == "bind":
        if not source.startswith("/"):
            raise UsageError(f"mount {text!r} has no source=PATH, which must be absolute")
        return _bind_mount(f"mount {text!r}", source, target, _bind_words(text, given))
    if kind == "tmpfs":
        if source:
            raise UsageError(f"mount {text!r}: memory has no source")
        return _tmpfs_mount(f"mount {text!r}", target, _tmpfs_words(text, given))
    if kind == "volume":
        return _volume_mount(f"mount {text!r}", source, target, _volume_words(text, given))
    raise UsageError(f"mount {text!r}: type {kind!r} is not known", hint="bind, volume or tmpfs")


def parse_tmpfs(text: str) -> dict[str, Any]:
    """Turn "/path[:size=64m,exec,…]" into an OCI mount; as docker has it, noexec, nosuid and nodev unless told."""
    path, _, options = text.partition(":")
    return _tmpfs_mount(f"tmpfs {text!r}", path, [word for word in options.split(",") if word])


def bind(destination: str, source: str, options: Sequence[str] = ("bind", "rprivate", "rw")) -> dict[str, Any]:
    """Return the OCI mount of a path of the host."""
    return {"destination": destination, "type": "bind", "source": source, "options": list(options)}


def place_in(what: str, path: str) -> str:
    """Return the path in its plain form. Raises UsageError for one where nothing can be mounted."""
    if not path.startswith("/") or "\0" in path:
        raise UsageError(f"{what}: the path in the container must be absolute, without NUL bytes")
    place = os.path.normpath("/" + path.lstrip("/"))
    if place == "/" or f"{place}/".startswith("/proc/"):
        raise UsageError(f"{what}: nothing can be put in the place of {path}")
    return place


def _bind_mount(what: str, source: str, target: str, words: Sequence[str]) -> dict[str, Any]:
    place = place_in(what, target)
    propagation, access, flags, more = "rprivate", "rw", [], []
    for word in words:
        if word in _PROPAGATION:
            propagation = word
        elif word in ("ro", "rro", "rw"):
            access = word
        elif word in _FLAGS:
            flags.append(word)
        elif word in ("idmap", "ridmap"):
            more.append(word)
        elif word not in _NOTHING_TO_DO:
            raise UsageError(f"{what}: option {word!r} is not known", hint="ro, rw, rslave, rshared, rprivate, idmap …")
    if "\0" in source or not os.path.exists(source):
        raise UsageError(f"{what}: there is no {source} on the host")
    if propagation.removeprefix("r") != "private":
        _check_propagation(what, source, propagation)
    if access == "ro" and _has_recursive_readonly():
        more.append("rro")  # as docker does since 25: what is mounted below it is not to be written either
    if access == "rro":
        access, more = "ro", [*more, "rro"]
    kind = "bind" if "bind" in words else "rbind"
    return bind(place, os.path.normpath(source), [kind, propagation, access, *flags, *more])


def _volume_mount(what: str, name: str, target: str, words: Sequence[str]) -> dict[str, Any]:
    """Return the mount of a named volume, or of one of the container's own where there is no name."""
    if name and not VOLUME_NAME.fullmatch(name):
        hint = "a path is absolute or begins with '.'; a name has letters, digits, '_', '.', '-'"
        raise UsageError(f"{what}: {name!r} is neither a path nor a name of a volume", hint=hint)
    place = place_in(what, target)
    access, flags = "rw", []
    for word in words:
        if word in ("ro", "rw"):
            access = word
        elif word in _FLAGS:
            flags.append(word)
        elif word in ("bind", "rbind") or word not in _NOTHING_TO_DO:
            raise UsageError(f"{what}: option {word!r} is not known of a volume", hint="ro, rw, nocopy, noexec …")
    return bind(place, "", ["bind", "rprivate", access, *flags]) | {"volume": name, "nocopy": "nocopy" in words}


def _volume_words(text: str, given: Mapping[str, str]) -> list[str]:
    words = []
    for key, value in given.items():
        if key in ("readonly", "ro"):
            words += ["ro"] if _truth(text, value) else []
        elif key in ("volume-nocopy", "nocopy"):
            words += ["nocopy"] if _truth(text, value) else []
        elif key != "consistency" and (key, value) != ("volume-driver", "local"):
            hint = "readonly, volume-nocopy; labels are given to inn volume create"
            raise UsageError(f"mount {text!r}: {key!r} is not known for a volume", hint=hint)
    return words


def _bind_words(text: str, given: Mapping[str, str]) -> list[str]:
    words = []
    for key, value in given.items():
        if key in ("readonly", "ro"):
            words += ["ro"] if _truth(text, value) else []
        elif key == "bind-propagation":
            words.append(value)
        elif key == "bind-recursive" and value in ("disabled", "enabled", "readonly", "writable"):
            words += {"disabled": ["bind"], "readonly": ["rro"]}.get(value, [])
        elif key == "bind-nonrecursive":
            words += ["bind"] if _truth(text, value) else []
        elif key != "consistency":
            raise UsageError(f"mount {text!r}: {key!r} is not known for a bind")
    return words


def _tmpfs_words(text: str, given: Mapping[str, str]) -> list[str]:
    words = []
    for key, value in given.items():
        if key == "tmpfs-size":
            words.append(f"size={value}")
        elif key == "tmpfs-mode":
            words.append(f"mode={value}")
        elif key in ("readonly", "ro"):
            words += ["ro"] if _truth(text, value) else []
        elif key != "consistency":
            raise UsageError(f"mount {text!r}: {key!r} is not known for a tmpfs")
    return words


def _tmpfs_mount(what: str, path: str, words: Sequence[str]) -> dict[str, Any]:
    options: list[str] = list(_TMPFS)
    for word in words:
        key, equals, value = word.partition("=")
        if equals:
            pattern = _TMPFS_VALUES.get(key)
            if pattern is None or not re.fullmatch(pattern, value.lower()):
                raise UsageError(
                    f"{what}: option {word!r} is not known", hint="size=64m, mode=1777, uid=, gid=, exec …"
                )
            options = [option for option in options if not option.startswith(f"{key}=")]
        elif word not in _TMPFS_FLAGS:
            raise UsageError(f"{what}: option {word!r} is not known", hint=_TMPFS_HINT)
        else:
            options = [option for option in options if option not in (word, _OPPOSITES.get(word))]
        options.append(word.lower() if equals else word)
    return {"destination": place_in(what, path), "type": "tmpfs", "source": "tmpfs", "options": options}


def _check_propagation(what: str, source: str, propagation: str) -> None:
    """Raise UsageError where the mount that the path is on takes no part in what is asked."""
    place, shared = _mount_of(os.path.realpath(source))
    if not shared:
        hint = f"mount --make-shared {place}"
        raise UsageError(f"{what}: {place} is not a shared mount, so {propagation} has no meaning", hint=hint)


def _mount_of(path: str) -> tuple[str, bool]:
    """Return the mount point that a path is below, and whether it is shared (proc(5), mountinfo)."""
    best, shared = "", False
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields = line.split(" ")
            place = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), fields[4])
            if (path + "/").startswith(place.rstrip("/") + "/") and len(place) >= len(best):
                optional = fields[6 : fields.index("-")]
                best, shared = place, any(field.startswith("shared:") for field in optional)
    return best or "/", shared


def _has_recursive_readonly() -> bool:
    """Say whether the kernel has mount_setattr(2), since 5.12."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return found is not None and (int(found[1]), int(found[2])) >= (5, 12)


def _first(given: dict[str, str], *keys: str) -> str:
    found = [given.pop(key) for key in keys if key in given]
    return found[0] if found else ""


def _truth(text: str, value: str) -> bool:
    if value.lower() not in ("true", "1", "false", "0"):
        raise UsageError(f"mount {text!r}: {value!r} is neither true nor false")
    return value.lower() in ("true", "1")
