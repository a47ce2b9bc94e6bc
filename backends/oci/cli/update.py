"""`inn oci update`: other limits, from options or from JSON."""

from __future__ import annotations

import sys
from typing import Any

from backends.oci import config, updating
from backends.oci.cli.command import Command
from backends.oci.errors import OciError

_NUMBERS = {
    "cpu-period": ("cpu", "period", 0),
    "cpu-quota": ("cpu", "quota", None),
    "cpu-burst": ("cpu", "burst", 0),
    "cpu-share": ("cpu", "shares", 0),
    "cpu-shares": ("cpu", "shares", 0),
    "cpu-rt-period": ("cpu", "realtimePeriod", 0),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", None),
    "cpu-idle": ("cpu", "idle", None),
}
"""Option → (part, property, smallest value)."""

_TEXTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}
_SIZES = {
    "memory": "limit",
    "memory-swap": "swap",
    "memory-reservation": "reservation",
    "kernel-memory": "kernel",
    "kernel-memory-tcp": "kernelTCP",
}
_RDT = {"l3-cache-schema": "CAT: l3 cache schema", "mem-bw-schema": "MBA: memory bandwidth schema"}


def run(command: Command) -> int:
    """Put them in force."""
    source = command.text("resources")
    with command.container() as container:
        wanted = _read(source) if source else _wanted(command)
        for option, what in _RDT.items():
            if command.text(option):
                raise OciError(f"Intel RDT/{what} is not enabled")
        updating.update(container, wanted, command.log.warning)
    return 0


def _read(source: str) -> dict[str, Any]:
    return config.parse(sys.stdin.read() if source == "-" else config.read(source))


def _wanted(command: Command) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for option, (part, name, least) in _NUMBERS.items():
        if command.text(option):
            wanted.setdefault(part, {})[name] = _number(command.text(option), option, least)
    for option, (part, name) in _TEXTS.items():
        if command.text(option):
            wanted.setdefault(part, {})[name] = command.text(option)
    for option, name in _SIZES.items():
        if command.text(option):
            wanted.setdefault("memory", {})[name] = updating.bytes_of(command.text(option), option)
    if command.options.get("blkio-weight"):
        wanted["blockIO"] = {"weight": command.options["blkio-weight"]}
    if "pids-limit" in command.options:
        wanted["pids"] = {"limit": command.options["pids-limit"]}
    return wanted


def _number(text: str, option: str, least: int | None) -> int:
    try:
        value = int(text)
    except ValueError:
        raise OciError(f'invalid value for {option}: parsing "{text}": invalid syntax') from None
    if least is not None and value < least:
        raise OciError(f'invalid value for {option}: parsing "{text}": invalid syntax')
    return value
