"""The values of `inn run`'s options, from text to what a backend takes. Each refuses nonsense in one line."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.core import container_values
from app.core.units import parse_duration, parse_size
from backends.container import HealthCheck, LogLimits, RestartPolicy, Secret
from backends.errors import UsageError, os_error_text

_MOST_BYTES = 4 << 20

volume = container_values.volume


def restart_policy(text: str) -> RestartPolicy:
    """Return the policy of "no", "on-failure[:N]", "always", "unless-stopped". Raises UsageError."""
    name, colon, most = text.partition(":")
    if name not in ("no", "on-failure", "always", "unless-stopped") or (colon and name != "on-failure"):
        raise UsageError(f"--restart: {text!r} is not known", hint="no, on-failure[:N], always, unless-stopped")
    return RestartPolicy(name, _count("--restart", most) if colon else None)


def health_check(args: argparse.Namespace) -> HealthCheck | None:
    """Return how its health is asked for; one without a program: not at all. None: as the image has it."""
    given = {
        name: getattr(args, f"health_{name}")
        for name in ("interval", "timeout", "start_period", "retries")
        if getattr(args, f"health_{name}") is not None
    }
    if args.no_healthcheck:
        if args.health_cmd or given:
            raise UsageError("--no-healthcheck goes with no other option about health")
        return HealthCheck(())
    if not args.health_cmd:
        if given:
            option = f"--health-{next(iter(given)).replace('_', '-')}"
            raise UsageError(f"{option} needs --health-cmd: there is nothing to ask")
        return None
    retries = _count("--health-retries", given.pop("retries")) if "retries" in given else 3
    times = {f"{name}_s": duration(f"--health-{name.replace('_', '-')}", text) for name, text in given.items()}
    return HealthCheck(("/bin/sh", "-c", args.health_cmd), retries=retries, **times)


def log_limits(texts: Sequence[str]) -> LogLimits:
    """Return how much of the log is kept. Raises UsageError."""
    found = LogLimits()
    size, files = found.max_bytes, found.max_files
    for text in texts:
        name, equals, value = text.partition("=")
        if name == "max-size" and equals:
            size = 0 if value == "-1" else parse_size(value, what="--log-opt max-size")
        elif name == "max-file" and equals:
            files = _count("--log-opt max-file", value)
        else:
            raise UsageError(f"--log-opt: {text!r} is not known", hint="max-size=10m, max-file=3")
    return LogLimits(size, files)


def secret(text: str) -> Secret:
    """Return what "id=NAME,src=FILE[,mode=0440,uid=…,gid=…]" or "id=NAME,env=VARIABLE" says. Raises UsageError."""
    pairs = (part.partition("=") for part in text.split(","))
    given = {key: value for key, _, value in pairs}
    known = {"id", "src", "source", "env", "mode", "uid", "gid"}
    if not given.get("id") or not given.keys() <= known:
        raise UsageError(
            "--secret makes no sense", hint="id=NAME,src=FILE or id=NAME,env=VARIABLE; also mode=, uid=, gid="
        )
    path = given.get("src") or given.get("source")
    if bool(path) == bool(given.get("env")):
        raise UsageError(f"--secret {given['id']}: say either src=FILE or env=VARIABLE")
    source = f"file:{os.path.abspath(path)}" if path else f"env:{given['env']}"  # noqa: PTH100 - keeps symlinks
    try:
        mode = int(given.get("mode", "0400"), 8)
        uid, gid = int(given.get("uid", "0")), int(given.get("gid", "0"))
    except ValueError:
        raise UsageError(f"--secret {given['id']}: mode is octal, uid and gid are numbers") from None
    if not 0 <= mode <= 0o777 or not (0 <= uid < 2**32 - 1 and 0 <= gid < 2**32 - 1):
        raise UsageError(f"--secret {given['id']}: mode, uid or gid is out of range")
    return Secret(given["id"], source, mode, uid, gid)


def build_secret(text: str) -> Secret:
    """Return what "[type=file|env,]id=NAME[,src=FILE]" says, in docker's words for a build. Raises UsageError.

    Without a source it is the variable of that name, if there is one, else the file.
    """
    given = {key: value for key, _, value in (part.partition("=") for part in text.split(","))}
    kind, name = given.pop("type", ""), given.get("id", "")
    if not name or kind not in ("", "file", "env") or not given.keys() <= {"id", "src", "source", "env"}:
        raise UsageError("--secret makes no sense", hint="id=NAME,src=FILE or id=NAME,env=VARIABLE")
    if kind == "env" and "env" not in given:
        given["env"] = given.pop("src", given.pop("source", name))
    elif given.keys() == {"id"}:
        given["env" if not kind and name in os.environ else "src"] = name
    return secret(",".join(f"{key}={value}" for key, value in given.items()))


def variables(texts: Sequence[str], files: Sequence[str] = ()) -> tuple[str, ...]:
    """Return KEY=VALUE of each, those of files first; KEY alone is taken from our environment, if it is there."""
    return container_values.variables([*(line for path in files for line in _lines(path)), *texts])


def _lines(path: str) -> Iterator[str]:
    """Yield the variables of a file as docker reads it: a line each, "#" begins a comment, nothing is quoted."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode()
    except OSError as error:
        raise UsageError(f"--env-file: {os_error_text(error)}") from error
    except UnicodeDecodeError:
        raise UsageError(f"--env-file: {path} is no text") from None
    if len(data) > _MOST_BYTES:
        raise UsageError(f"--env-file: {path} is larger than {_MOST_BYTES >> 20} MiB")
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = raw.lstrip()
        if not line or line.startswith("#"):
            continue
        name = line.partition("=")[0]
        if not name or any(character.isspace() for character in name):
            raise UsageError(f"--env-file: line {number} of {path} is not NAME=VALUE")
        yield line


def entry_point(text: str | None) -> tuple[str, ...] | None:
    """Return the program of --entrypoint: one word, or a JSON array; "" is none."""
    if text is None:
        return None
    if text.startswith("["):
        try:
            words = json.loads(text)
        except ValueError:
            words = None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise UsageError(f"--entrypoint: {text!r} is no JSON array of words")
        return tuple(words)
    return (text,) if text else ()


def labels(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Return KEY → VALUE; KEY alone has none. Raises UsageError."""
    found = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key:
            raise UsageError(f"{option}: {text!r} has no key: expected KEY or KEY=VALUE")
        found[key] = value
    return found


def size(option: str, text: str | None) -> int | None:
    """Return bytes. Raises UsageError."""
    return None if text is None else parse_size(text, what=option)


def duration(option: str, text: str) -> float:
    """Return seconds of "90", "1m30s". Raises UsageError."""
    total, rest = 0.0, text
    while True:
        head = rest[: next((at + 1 for at, letter in enumerate(rest) if letter in "smhd"), len(rest))]
        if head.endswith("m") and rest[len(head) : len(head) + 1] == "s":
            head += "s"
        total += parse_duration(head, what=option)
        rest = rest[len(head) :]
        if not rest:
            return total


def _count(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10) or not 0 < int(text) < 2**31:
        raise UsageError(f"{option}: {text!r} is no number above 0")
    return int(text)
