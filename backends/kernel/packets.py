"""Packets with descriptors beside them, over connected SOCK_SEQPACKET sockets (unix(7))."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence


def send(sock: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Send one packet. Raises ConnectionError when the peer has gone, OSError."""
    if fds:
        sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    else:
        sock.send(data)


def receive(sock: socket.socket, most_bytes: int, most_fds: int) -> tuple[bytes, list[int]]:
    """Return one packet and its descriptors, which the caller closes; b"" when the peer has gone. Raises OSError."""
    size = socket.CMSG_LEN(most_fds * 4)
    try:
        data, ancillary, _, _ = sock.recvmsg(most_bytes, size, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        # Said once, and first, where the peer went without having read all; what it sent before comes after that.
        data, ancillary, _, _ = sock.recvmsg(most_bytes, size, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if not data:
        for fd in fds:
            os.close(fd)
        return b"", []
    return data, list(fds)
