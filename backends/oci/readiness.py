"""sd_notify(3) through a container: its program says READY=1 to us, and we say it to the service manager.

The program cannot reach the manager's socket, so it gets one of ours at /run/notify; who starts the container
listens there, and tells the manager which process is the main one.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

_FOLDER, _NAME = "notify", "notify.sock"
_INSIDE = "/run/notify"
_MAX_MESSAGE = 4096


def managers_socket() -> str:
    """Return where the service manager listens; nothing where there is none."""
    return os.environ.get("NOTIFY_SOCKET", "")


def provide(config: MutableMapping[str, Any], folder: str) -> None:
    """Let a container's program find our socket: a mount and a variable more in its configuration."""
    if not managers_socket():
        return
    place = f"{folder}/{_FOLDER}"
    os.mkdir(place, 0o755)
    mount = {"destination": _INSIDE, "type": "bind", "source": place, "options": ["bind", "nosuid", "noexec", "nodev"]}
    config["mounts"] = [*(config.get("mounts") or ()), mount]
    process = config["process"]
    kept = [entry for entry in process.get("env") or () if not entry.startswith("NOTIFY_SOCKET=")]
    process["env"] = [*kept, f"NOTIFY_SOCKET={_INSIDE}/{_NAME}"]


class Readiness:
    """Our socket, while its container starts."""

    def __init__(self, folder: str) -> None:
        """Raises OSError."""
        place = os.open(f"{folder}/{_FOLDER}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            path = f"/proc/self/fd/{place}/{_NAME}"  # short, however deep the folder is
            self._sock.bind(path)
            os.chmod(path, 0o777)  # whoever the program runs as
        finally:
            os.close(place)
        self._sock.setblocking(False)

    @classmethod
    def of(cls, folder: str) -> Readiness | None:
        """Return the socket of a container that was given one, if there is a manager to be told."""
        return cls(folder) if managers_socket() and os.path.isdir(f"{folder}/{_FOLDER}") else None

    @property
    def fd(self) -> int:
        """Readable when the program has said something."""
        return self._sock.fileno()

    def hear(self, pid: int) -> bool:
        """Pass on what the program said; True once it is ready."""
        try:
            said = self._sock.recv(_MAX_MESSAGE)
        except BlockingIOError:
            return False
        if not any(line == b"READY=1" for line in said.split(b"\n")):
            return False
        _tell(f"READY=1\nMAINPID={pid}")
        return True

    def wait(self, pid: int, pidfd: int) -> None:
        """Wait until the program is ready or has ended."""
        watch = select.poll()
        watch.register(self.fd, select.POLLIN)
        watch.register(pidfd, select.POLLIN)
        while True:
            ready = dict(watch.poll())
            if (self.fd in ready and self.hear(pid)) or pidfd in ready:
                return

    def close(self) -> None:
        """Listen no more."""
        self._sock.close()


def _tell(text: str) -> None:
    path = managers_socket()
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock, suppress(OSError):
        sock.sendto(text.encode(), address)
