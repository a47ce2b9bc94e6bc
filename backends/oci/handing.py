"""What a runtime leaves for its caller beside a container: a pid in a file, a pidfd over a socket."""

from __future__ import annotations

import array
import os
import socket

from backends.oci.errors import OciError


def write_pid_file(path: str, pid: int) -> None:
    """Write the file whole or not at all; nothing without a path. Raises OSError."""
    if not path:
        return
    folder, name = os.path.split(path)
    draft = os.path.join(folder, f".{name}")
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)
    os.rename(draft, path)


def send_pidfd(path: str, pidfd: int) -> None:
    """Send the descriptor of the first process to who listens there; nothing without a path. Raises OciError."""
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(path)
            sock.sendmsg([b"pidfd"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))])
        except OSError as error:
            raise OciError(f"failed to dial {path}: {(error.strerror or '').lower()}") from error
