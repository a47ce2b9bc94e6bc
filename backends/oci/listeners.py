"""Sockets that a service manager opened for the container's program (sd_listen_fds(3))."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Any


def take(process: MutableMapping[str, Any]) -> int:
    """Return how many descriptors from 3 on are such sockets; their names go to the program's environment."""
    pid, number = os.environ.get("LISTEN_PID", ""), os.environ.get("LISTEN_FDS", "")
    if not number.isdigit() or (pid and pid != str(os.getpid())):
        return 0
    names = os.environ.get("LISTEN_FDNAMES")
    if names:
        process["env"] = [*(process.get("env") or ()), f"LISTEN_FDNAMES={names}"]
    return int(number)
