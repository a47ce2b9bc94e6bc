"""Handing a seccomp listener to the program that answers for the kernel.

config-linux.md, "The Container Process State".
"""

from __future__ import annotations

import array
import socket
from collections.abc import Mapping
from typing import Any

from backends import quick_json
from backends.errors import StartFailed, os_error_text


def send(profile: Mapping[str, Any], state: Mapping[str, Any], pid: int, listener: int) -> None:
    """Send the descriptor with the container process state to listenerPath. Raises StartFailed."""
    path = profile.get("listenerPath", "")
    told = {
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": profile.get("listenerMetadata", ""),
        "state": state,
    }
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(path)
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))]
            sock.sendmsg([quick_json.dumps(told).encode()], beside)
    except OSError as error:
        text = f"failed to connect with seccomp agent specified in the seccomp profile: {path}"
        raise StartFailed(f"{text}: {os_error_text(error).lower()}") from error
