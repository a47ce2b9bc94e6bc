"""Configs of images (image-spec config.md; docker's HEALTHCHECK, SHELL and ONBUILD beside it), read strictly."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.container import HealthCheck
from backends.errors import InnkeeperError
from backends.native.images.blobs import check_digest
from backends.native.images.platforms import Platform
from backends.native.images.strict_json import (
    Malformed,
    a_list,
    a_text,
    an_object,
    parse,
    text_map,
    texts,
)

_NS = 1_000_000_000
_MAX_NS = 10**19
_FINER_THAN_US = 26
"""Length of a time up to its microseconds; more digits are cut."""


@dataclass(frozen=True, slots=True)
class Step:
    """An entry of the history, oldest first."""

    created_s: float | None
    created_by: str
    comment: str
    author: str
    is_empty: bool
    """It made no layer."""


@dataclass(frozen=True, slots=True)
class Config:
    """What an image says of itself and of its containers."""

    platform: Platform
    created_s: float | None
    author: str
    diff_ids: tuple[str, ...]
    """Lowest layer first."""

    history: tuple[Step, ...]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    env: tuple[str, ...]
    user: str
    cwd: str
    stop_signal: str
    volumes: tuple[str, ...]
    exposed_ports: tuple[str, ...]
    """"80/tcp" each."""

    labels: Mapping[str, str]
    shell: tuple[str, ...]
    on_build: tuple[str, ...]
    health: HealthCheck | None
    is_health_off: bool
    """The image says that there is to be no check, also if what it was made from had one."""

    raw: Mapping[str, Any] = field(repr=False)

    @property
    def chain_ids(self) -> tuple[str, ...]:
        """The ids of each layer with all below it, lowest first (config.md, "Layer ChainID")."""
        return chain_ids(self.diff_ids)


def parse_config(data: bytes, what: str = "the config") -> Config:
    """Return what the bytes of a config say. Raises Malformed."""
    raw = parse(data, what)
    rootfs = an_object(raw.get("rootfs"), f"rootfs of {what}")
    if rootfs.get("type", "layers") != "layers":
        raise Malformed(f"{what} has a rootfs of unknown type")
    inner = an_object(raw.get("config"), f"config of {what}")
    command = _words(inner.get("Cmd"), f"Cmd of {what}")
    health, is_off = _health(inner.get("Healthcheck"), f"Healthcheck of {what}")
    return Config(
        platform=Platform.from_json(raw, what),
        created_s=_time(raw.get("created"), f"created of {what}"),
        author=a_text(raw.get("author"), f"author of {what}"),
        diff_ids=tuple(_digest(entry, what) for entry in a_list(rootfs.get("diff_ids"), f"diff_ids of {what}")),
        history=tuple(_step(entry, what) for entry in a_list(raw.get("history"), f"history of {what}")),
        entrypoint=_words(inner.get("Entrypoint"), f"Entrypoint of {what}"),
        command=command,
        env=_env(inner.get("Env"), f"Env of {what}"),
        user=a_text(inner.get("User"), f"User of {what}"),
        cwd=_folder(inner.get("WorkingDir"), f"WorkingDir of {what}"),
        stop_signal=a_text(inner.get("StopSignal"), f"StopSignal of {what}"),
        volumes=_keys(inner.get("Volumes"), f"Volumes of {what}"),
        exposed_ports=_keys(inner.get("ExposedPorts"), f"ExposedPorts of {what}"),
        labels=text_map(inner.get("Labels"), f"Labels of {what}"),
        shell=_words(inner.get("Shell"), f"Shell of {what}"),
        on_build=texts(inner.get("OnBuild"), f"OnBuild of {what}"),
        health=health,
        is_health_off=is_off,
        raw=raw,
    )


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of each layer with all below it, lowest first."""
    import hashlib

    found: list[str] = []
    for diff_id in diff_ids:
        found.append("sha256:" + hashlib.sha256(f"{found[-1]} {diff_id}".encode()).hexdigest() if found else diff_id)
    return tuple(found)


def _digest(value: object, what: str) -> str:
    try:
        return check_digest(value)
    except InnkeeperError as error:
        raise Malformed(f"{what}: {error}") from None


def _words(value: object, what: str) -> tuple[str, ...]:
    """Cmd and Entrypoint are arrays; very old images have plain text, which docker takes as one word."""
    return (value,) if isinstance(value, str) and value else texts(value or None, what)


def _env(value: object, what: str) -> tuple[str, ...]:
    entries = texts(value, what)
    bad = next((entry for entry in entries if "=" not in entry or entry.startswith("=")), None)
    if bad is not None:
        raise Malformed(f"{what} has {bad[:60]!r}, which is not NAME=VALUE")
    return entries


def _folder(value: object, what: str) -> str:
    text = a_text(value, what)
    return text if not text or text.startswith("/") else "/" + text


def _keys(value: object, what: str) -> tuple[str, ...]:
    """A set is an object with empty values."""
    return tuple(a_text(key, what) for key in an_object(value, what))


def _step(value: object, what: str) -> Step:
    raw = an_object(value, f"an entry of the history of {what}")
    return Step(
        created_s=_time(raw.get("created"), f"a time in the history of {what}"),
        created_by=a_text(raw.get("created_by"), f"history of {what}"),
        comment=a_text(raw.get("comment"), f"history of {what}"),
        author=a_text(raw.get("author"), f"history of {what}"),
        is_empty=raw.get("empty_layer") is True,
    )


def _time(value: object, what: str) -> float | None:
    """Return seconds since the epoch of an RFC 3339 time; Go's zero time is none."""
    text = a_text(value, what)
    if not text:
        return None
    zone = "+00:00" if text.endswith(("Z", "z")) else text[-6:]
    body = text[:-1] if text.endswith(("Z", "z")) else text[:-6]
    try:
        found = datetime.datetime.fromisoformat(body[:_FINER_THAN_US] + zone)
        return found.timestamp() if found.tzinfo is not None and found.year > 1 else None
    except (ValueError, OverflowError):
        raise Malformed(f"{what} is no time: {text[:60]!r}") from None


def time_text(time_s: float) -> str:
    """Return seconds since the epoch as configs have them: RFC 3339 in UTC."""
    moment = datetime.datetime.fromtimestamp(time_s, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _health(value: object, what: str) -> tuple[HealthCheck | None, bool]:
    """Return docker's health check, and whether it is switched off; times are nanoseconds, 0 is the default."""
    raw = an_object(value, what)
    test = texts(raw.get("Test"), f"Test of {what}")
    if not test:
        return None, False
    if test[0] == "NONE":
        return None, True
    words = ("/bin/sh", "-c", *test[1:]) if test[0] == "CMD-SHELL" else test[1:]
    if test[0] not in ("CMD", "CMD-SHELL") or len(test) < 2:
        raise Malformed(f"{what} is neither NONE nor CMD nor CMD-SHELL with a program")
    times = {
        key: _seconds(raw.get(name), f"{name} of {what}")
        for key, name in (("interval_s", "Interval"), ("timeout_s", "Timeout"), ("start_period_s", "StartPeriod"))
    }
    retries = raw.get("Retries") or 3
    if not isinstance(retries, int) or not 0 < retries < 1_000_000:
        raise Malformed(f"Retries of {what} is no count")
    return HealthCheck(words, retries=retries, **{key: found for key, found in times.items() if found}), False


def _seconds(value: object, what: str) -> float:
    if value is None:
        return 0.0
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _MAX_NS:
        raise Malformed(f"{what} is no time in nanoseconds")
    return value / _NS
