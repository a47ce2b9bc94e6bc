"""What an instruction changes in an image's configuration (image-spec config.md, and docker's additions to it).

Pure: the `config` of an image and an instruction in, the changed keys out. `build` and `commit --change` share it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from backends.errors import UsageError
from backends.native.build.dockerfile import DockerfileError
from backends.native.build.instruction import Instruction
from backends.native.build.words import WordError, expand, expand_words
from backends.native.living import signal_name

LONGEST = 4 * 1024**2
"""Bytes of a configuration; registries take no longer ones."""

_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_MOST_PORTS = 65_536
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}

COMMITTED = ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME",
             "WORKDIR")  # fmt: skip
"""What `commit --change` takes; docker's list, and no more."""

Config = Mapping[str, Any]


def change(step: Instruction, config: Config, values: Mapping[str, str], escape: str = "\\") -> dict[str, Any]:
    """Return the keys of `config` that an instruction without files changes. Raises DockerfileError."""
    try:
        return _CHANGES[step.keyword](_Step(step, config, values, escape))
    except WordError as error:
        raise DockerfileError(step.line, str(error)) from None
    except UsageError as error:
        if isinstance(error, DockerfileError):
            raise
        raise DockerfileError(step.line, error.message, hint=error.hint) from None


def is_change(keyword: str) -> bool:
    """Say whether an instruction only changes the configuration."""
    return keyword in _CHANGES


def shell_of(config: Config) -> list[str]:
    """Return the words that a shell form is given to."""
    return list(config.get("Shell") or _SHELL)


def command_of(step: Instruction, config: Config) -> list[str]:
    """Return the program and arguments of a RUN, CMD or ENTRYPOINT."""
    return list(step.words) if step.is_json or not step.words else [*shell_of(config), *step.words]


def environment(config: Config) -> dict[str, str]:
    """Return the variables of a configuration."""
    return dict(entry.partition("=")[::2] for entry in config.get("Env") or ())


class _Step:
    """An instruction with what its words are to be read by."""

    def __init__(self, step: Instruction, config: Config, values: Mapping[str, str], escape: str) -> None:
        self.step, self.config, self.values, self.escape = step, config, values, escape

    def word(self, text: str) -> str:
        return expand(text, self.values, self.escape)

    def words(self) -> list[str]:
        if self.step.is_json:
            return [self.word(word) for word in self.step.words]
        return [word for each in self.step.words for word in expand_words(each, self.values, self.escape)]

    def pairs(self) -> dict[str, str]:
        return {self.word(name): self.word(value or "") for name, value in self.step.pairs}


def _env(it: _Step) -> dict[str, Any]:
    found = environment(it.config)
    for name, value in it.pairs().items():
        if not name or "=" in name or "\0" in name + value:
            raise WordError(f"{name[:40]!r} cannot be the name of a variable")
        found[name] = value
    return {"Env": [f"{name}={value}" for name, value in found.items()]}


def _label(it: _Step) -> dict[str, Any]:
    return {"Labels": {**(it.config.get("Labels") or {}), **it.pairs()}}


def _cmd(it: _Step) -> dict[str, Any]:
    return {"Cmd": command_of(it.step, it.config) or None}


def _entrypoint(it: _Step) -> dict[str, Any]:
    # A CMD of the base image was meant for its own entry point, as docker has it; one of this file stays.
    return {"Entrypoint": command_of(it.step, it.config) or None}


def _shell(it: _Step) -> dict[str, Any]:
    return {"Shell": list(it.step.words)}


def _workdir(it: _Step) -> dict[str, Any]:
    return {"WorkingDir": folder_of(it.word(it.step.words[0]), it.config)}


def folder_of(path: str, config: Config) -> str:
    """Return a path of an image, absolute and without "..", as WORKDIR and COPY take it."""
    if not path or "\0" in path:
        raise WordError("the path is empty" if not path else "a path cannot hold NUL bytes")
    parts: list[str] = []
    for part in (path if path.startswith("/") else f"{config.get('WorkingDir') or '/'}/{path}").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _user(it: _Step) -> dict[str, Any]:
    user = it.word(it.step.words[0])
    if not re.fullmatch(r"[^\s:\0]+(:[^\s:\0]+)?", user):
        raise WordError(f"USER {user[:60]!r} is not USER or USER:GROUP")
    return {"User": user}


def _expose(it: _Step) -> dict[str, Any]:
    found = dict(it.config.get("ExposedPorts") or {})
    for word in it.words():
        match = _PORT.fullmatch(word)
        first, last = (int(match.group(1)), int(match.group(2) or match.group(1))) if match else (0, 0)
        if match is None or not 0 < first <= last < _MOST_PORTS:
            raise WordError(f"EXPOSE {word[:40]!r} is no port: 80, 80/udp or 8000-8010")
        protocol = (match.group(3) or "tcp").lower()
        found |= {f"{port}/{protocol}": {} for port in range(first, last + 1)}
    return {"ExposedPorts": found}


def _volume(it: _Step) -> dict[str, Any]:
    words = it.words()
    if not words or not all(words):
        raise WordError("VOLUME needs a path")
    return {"Volumes": {**(it.config.get("Volumes") or {}), **{folder_of(word, it.config): {} for word in words}}}


def _stop_signal(it: _Step) -> dict[str, Any]:
    text = it.word(it.step.words[0])
    signal_name(text)
    return {"StopSignal": text}


def _health(it: _Step) -> dict[str, Any]:
    step = it.step
    if step.child is None:
        return {"Healthcheck": {"Test": ["NONE"]}}
    words = list(step.child.words)
    found: dict[str, Any] = {"Test": ["CMD", *words] if step.child.is_json else ["CMD-SHELL", *words]}
    keys = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod",
            "start-interval": "StartInterval"}  # fmt: skip
    for flag, key in keys.items():
        if text := step.flag(flag):
            found[key] = nanoseconds(text, flag)
    if text := step.flag("retries"):
        if not (text.isascii() and text.isdigit() and len(text) < 6):
            raise WordError(f"--retries={text[:20]} is no count")
        found["Retries"] = int(text)
    return {"Healthcheck": found}


def nanoseconds(text: str, flag: str) -> int:
    """Return a time as Go writes it: "1m30s", "500ms". Raises WordError."""
    parts = re.findall(r"(\d{1,9}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h)", text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        raise WordError(f"--{flag}={text[:20]} is no time: 30s, 1m30s, 500ms")
    total = round(sum(float(number) * _UNITS[unit] for number, unit in parts))
    if 0 < total < 10**6:
        raise WordError(f"--{flag}={text} is shorter than 1ms")
    return total


def _onbuild(it: _Step) -> dict[str, Any]:
    return {"OnBuild": [*(it.config.get("OnBuild") or ()), it.step.words[0]]}


_CHANGES = {
    "ENV": _env,
    "LABEL": _label,
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "SHELL": _shell,
    "WORKDIR": _workdir,
    "USER": _user,
    "EXPOSE": _expose,
    "VOLUME": _volume,
    "STOPSIGNAL": _stop_signal,
    "HEALTHCHECK": _health,
    "ONBUILD": _onbuild,
}


def changes_of(texts: Sequence[str], config: Config) -> tuple[dict[str, Any], list[str]]:
    """Return what instructions given one by one (`commit --change`) change, and the instructions as written.

    Raises UsageError.
    """
    from backends.native.build.dockerfile import read_lines

    found, written = dict(config), []
    for text in texts:
        for step in read_lines(text.split("\n"), "\\", 1):
            if step.keyword not in COMMITTED:
                hint = f"these can be: {', '.join(COMMITTED)}"
                raise UsageError(f"{step.keyword} cannot be a change of an image", hint=hint)
            found |= change(step, found, environment(found))
            written.append(step.text)
    return {key: value for key, value in found.items() if config.get(key) != value}, written
