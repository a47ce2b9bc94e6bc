"""`inn oci events`: a container's figures, once or again and again, and what the OOM killer did."""

from __future__ import annotations

import os
from typing import Any

from backends.oci import signalling, stats, updating
from backends.oci.cli.command import Command
from backends.oci.errors import NotRunning, OciError
from backends.oci.quick_json import dumps

_POLL_S = 0.2
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def run(command: Command) -> int:
    """Print a line of JSON for each event, until the container has ended."""
    interval_s = seconds_of(command.text("interval") or "5s")
    if interval_s <= 0:
        raise OciError("duration interval must be greater than 0")
    container = command.container()
    if container.status() == "stopped":
        raise NotRunning(f"container with id {container.id} is not running")
    group = updating.group_of(container)
    if command.flag("stats"):
        _say(command, "stats", stats.read(group))
        return 0
    pidfd = signalling.open_process(container.pid, container.state.get("start_ticks"))
    kills, passed_s = group.oom_kills() or 0, interval_s
    while not signalling.has_ended_within(pidfd, _POLL_S):
        now = group.oom_kills() or 0
        for _ in range(now - kills):
            _say(command, "oom", None)
        kills, passed_s = now, passed_s + _POLL_S
        if passed_s >= interval_s:
            passed_s = 0.0
            _say(command, "stats", stats.read(group))
    os.close(pidfd)
    for _ in range((group.oom_kills() or 0) - kills):
        _say(command, "oom", None)
    return 0


def _say(command: Command, kind: str, data: Any) -> None:
    event = {"type": kind, "id": command.id, **({} if data is None else {"data": data})}
    command.print(dumps(event) + "\n")


def seconds_of(text: str) -> float:
    """Return the seconds of a Go duration: "5s", "100ms", "1m30s". Raises OciError."""
    import re

    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise OciError(f'invalid value "{text}" for flag -interval: parse error')
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
