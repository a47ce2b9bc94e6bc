"""`inn oci events`: a container's figures, once or again and again, and what the OOM killer did."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from backends.errors import Unsupported
from backends.kernel.cgroup import Cgroup
from backends.kernel.cgroup_file import GuestVanished
from backends.kernel.cgroup_oom import OomWatch
from backends.oci import signalling, stats, updating
from backends.oci.cli.command import Command
from backends.oci.errors import NotRunning, OciError
from backends.quick_json import dumps

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
        _say(command, "stats", stats.read(group, container.pid))
        return 0
    pidfd = signalling.open_process(container.pid, container.state.get("start_ticks"))
    try:
        _follow(command, container.pid, pidfd, group, interval_s)
    finally:
        os.close(pidfd)
    return 0


def _follow(command: Command, pid: int, pidfd: int, group: Cgroup, interval_s: float) -> None:
    """Tell of kills as they happen, of figures each interval, until the process ends."""
    import select

    watch = _watch(group)
    poll, due = select.poll(), time.monotonic() + interval_s
    for fd in (pidfd, *((watch.fileno(),) if watch else ())):
        poll.register(fd, select.POLLIN)
    has_ended = False
    while not has_ended:
        ready = poll.poll(max(0.0, due - time.monotonic()) * 1000)
        has_ended = any(fd == pidfd for fd, _ in ready)
        for _ in range(watch.kills() if watch else 0):
            _say(command, "oom", None)
        if watch and watch.is_over:
            poll.unregister(watch.fileno())
            watch.close()
            watch = None
        if time.monotonic() >= due and not has_ended:
            due = time.monotonic() + interval_s
            with suppress(GuestVanished):
                _say(command, "stats", stats.read(group, pid))
    if watch:
        watch.close()


def _watch(group: Cgroup) -> OomWatch | None:
    try:
        return OomWatch(group)
    except (Unsupported, GuestVanished):
        return None


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
