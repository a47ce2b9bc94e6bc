"""Sockets that a service manager opened for the container's program (sd_listen_fds(3))."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Any


def number() -> int:
    """Return how many descriptors from 3 on are such sockets; LISTEN_FDS is for the process that LISTEN_PID names."""
    pid, count = os.environ.get("LISTEN_PID", ""), os.environ.get("LISTEN_FDS", "")
    return int(count) if count.isdigit() and (not pid or pid == str(os.getpid())) else 0


def take(process: MutableMapping[str, Any]) -> int:
    """Return number(); the sockets' names go to the program's environment."""
    count, names = number(), os.environ.get("LISTEN_FDNAMES")
    if count and names:
        process["env"] = [*(process.get("env") or ()), f"LISTEN_FDNAMES={names}"]
    return count
