"""The socket over which a runtime sends the master of a container's terminal (runc's --console-socket)."""

from __future__ import annotations

import array
import os
import socket
from pathlib import Path

from backends.errors import StartFailed

NAME = "console"
"""In the bundle's folder, which is the runtime's working directory: a path of any length stays short."""

_PATIENCE_S = 10.0


class ConsoleSocket:
    """Listens from its making to its closing."""

    def __init__(self, folder: Path, name: str = NAME) -> None:
        self._path = folder / name
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._listener.bind(f"/proc/self/fd/{place}/{name}")
        finally:
            os.close(place)
        os.chmod(self._path, 0o600)
        self._listener.listen(1)
        self._listener.settimeout(_PATIENCE_S)

    def take(self) -> int:
        """Return the master that the runtime has sent; the caller closes it. Raises StartFailed."""
        try:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(_PATIENCE_S)
                _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_LEN(4), socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise StartFailed(f"the runtime sent no terminal: {error}") from error
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                return int(array.array("i", payload[:4])[0])
        raise StartFailed("the runtime sent no terminal")

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
        self._path.unlink(missing_ok=True)
