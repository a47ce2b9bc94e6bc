"""What RUN --mount asks for, in BuildKit's words (docs.docker.com/reference/dockerfile, "RUN --mount").

Pure: an option's text in, a Mount out. mounting.py makes them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass

from backends.native.build.dockerfile import DockerfileError
from backends.native.build.instruction import Instruction

_OWNED = ("mode", "uid", "gid")
_READ_ONLY = ("readonly", "readwrite")
_KEYS = {
    "bind": ("source", "from", *_READ_ONLY),
    "cache": ("id", "source", "from", "sharing", *_READ_ONLY, *_OWNED),
    "tmpfs": ("size", *_READ_ONLY),
    "secret": ("id", "required", *_OWNED),
}
"""What each type takes beside its target."""

_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_SWITCHES = ("readonly", "readwrite", "required")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_SIZE = re.compile(r"(\d{1,15})([kmgt]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MOST = 100


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a RUN."""

    kind: str
    """"bind", "cache", "tmpfs" or "secret"."""

    target: str
    """As it was written; empty only for a secret, which then is /run/secrets/ID."""

    source: str = ""
    """Path below what it is taken from; empty: all of that."""

    origin: str = ""
    """Stage or image that it is taken from; empty: the context of a bind, nothing for a cache."""

    id: str = ""
    """Of a cache or secret; empty: what the target says."""

    read_only: bool = False
    sharing: str = "shared"
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size_bytes: int | None = None
    """Of a tmpfs; None: what the kernel has it be."""

    required: bool = False
    """The build fails where the secret was not given."""


def sources(step: Instruction) -> list[str]:
    """Return the stages and images that the mounts of a RUN are taken from. Raises DockerfileError."""
    return [given["from"] for given in _all(step) if given.get("from")]


def of(step: Instruction, expand: Callable[[str], str]) -> list[Mount]:
    """Return the mounts of a RUN; expand replaces variables in what they say. Raises DockerfileError, WordError."""
    return [_mount({key: expand(value) for key, value in given.items()}, step.line) for given in _all(step)]


def _all(step: Instruction) -> list[dict[str, str]]:
    texts = [value for name, value in step.flags if name == "mount"]
    if len(texts) > _MOST:
        raise DockerfileError(step.line, f"a RUN can have {_MOST} mounts at most")
    return [_words(text, step.line) for text in texts]


def _words(text: str, line: int) -> dict[str, str]:
    """Return keys, as the reference calls them first, and values, in which variables stand still."""
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise DockerfileError(line, f"--mount={text[:60]} is no list of KEY=VALUE: {error}") from None
    found: dict[str, str] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        key = _NAMES.get(name.lower(), name.lower())
        if not equals and key not in _SWITCHES:
            raise DockerfileError(line, f"--mount: {field[:40]!r} is not KEY=VALUE")
        if key in found:
            raise DockerfileError(line, f"--mount: {name} is there twice")
        found[key] = value if equals else "true"
    if found.get("type", "").lower() == "ssh":
        hint = "a key can be a secret: --mount=type=secret,id=KEY"
        raise DockerfileError(line, "RUN --mount=type=ssh is not supported: no agent is forwarded", hint=hint)
    if re.search(r"\$.", found.get("from", "")):
        hint = "give the image a name first: FROM IMAGE AS NAME"
        raise DockerfileError(line, f"--mount: from={found['from'][:40]} cannot hold variables", hint=hint)
    return found


def _mount(given: dict[str, str], line: int) -> Mount:
    kind = given.pop("type", "bind").lower()
    if kind not in _KEYS:
        raise DockerfileError(line, f"--mount: type {kind[:40]!r} is not known: bind, cache, tmpfs or secret")
    if kind == "secret" and "source" in given:  # docker's other word for it
        if "id" in given:
            raise DockerfileError(line, "--mount: source and id of a secret are the same, and both are given")
        given["id"] = given.pop("source")
    target = given.pop("target", "")
    for key in given:
        if key not in _KEYS[kind]:
            raise DockerfileError(line, f"--mount: {key[:40]!r} is no option of type={kind}")
    if not target and not (kind == "secret" and given.get("id")):
        raise DockerfileError(line, f"--mount: type={kind} needs target=PATH" + " or id=NAME" * (kind == "secret"))
    sharing = given.get("sharing", "shared").lower()
    if sharing not in ("shared", "private", "locked"):
        raise DockerfileError(line, f"--mount: sharing={sharing[:40]} is not known: shared, private or locked")
    return Mount(
        kind, target, given.get("source", ""), given.get("from", ""), given.get("id", ""),
        read_only=_is_read_only(kind, given, line), sharing=sharing, mode=_number(given, "mode", 8, 0o7777, line),
        uid=_number(given, "uid", 10, 2**32 - 2, line) or 0, gid=_number(given, "gid", 10, 2**32 - 2, line) or 0,
        size_bytes=_size(given, line), required=_switch(given, "required", line, default=False),
    )  # fmt: skip


def _is_read_only(kind: str, given: dict[str, str], line: int) -> bool:
    if "readonly" in given and "readwrite" in given:
        raise DockerfileError(line, "--mount: readonly and readwrite do not go together")
    if "readwrite" in given:
        return not _switch(given, "readwrite", line, default=False)
    return _switch(given, "readonly", line, default=kind in ("bind", "secret"))


def _switch(given: dict[str, str], key: str, line: int, *, default: bool) -> bool:
    if key not in given:
        return default
    value = _TRUTH.get(given[key].lower())
    if value is None:
        raise DockerfileError(line, f"--mount: {key}={given[key][:40]} is neither true nor false")
    return value


def _number(given: dict[str, str], key: str, base: int, most: int, line: int) -> int | None:
    if key not in given:
        return None
    text = given[key]
    digits = "01234567" if base == 8 else "0123456789"
    if not text or len(text) > 12 or any(digit not in digits for digit in text) or int(text, base) > most:
        what = "no mode: three or four octal digits, as 0755" if base == 8 else "no number of a user or group"
        raise DockerfileError(line, f"--mount: {key}={text[:40]} is {what}")
    return int(text, base)


def _size(given: dict[str, str], line: int) -> int | None:
    if "size" not in given:
        return None
    match = _SIZE.fullmatch(given["size"])
    if match is None:
        raise DockerfileError(line, f"--mount: size={given['size'][:40]} is no size: 64m, 1g")
    return int(match[1]) * _UNITS[match[2].lower()]
