"""How clients, the spawner and supervisors talk: JSON messages over SOCK_SEQPACKET, descriptors beside them.

::

    client → spawner      {"op": "start", "id": …, "code": …}         answer comes from the new supervisor
                          {"op": "run", "spec": …, "code": …}: make one and start it; with "follow" the end is told too
                          {"op": "ping"} | {"op": "shutdown"}          {"ok": true, "pid": n}
    spawner → client      {"stale": true}: it has loaded other code than is at "code", and ends
    maker → client        {"steps": […]}
    supervisor → client   {"ok": true, "pid": n} | {"error": …, "exit_code": n}
    client → spawner      {"op": "look"}: see to containers whose supervisor died unseen
    client → supervisor   {"op": "ping" | "kill" | "stop" | "pause" | "resume" | "wait" | "attach" | "exec" …}
                          {"op": "start"}: the next start is not to be waited for, {"op": "policy"}: it has changed
    supervisor → client   {"ok": true, …} | {"error": …}; later {"exit_code": n} for wait, stop and exec
    attached client       b"D" + bytes: standard input;  b"E": end of it;  JSON {"op": "resize"}

A message is one packet: whole or not at all. Peers are checked by SO_PEERCRED: same user, or root.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backends import errors
from backends.errors import InnkeeperError, StartFailed, os_error_text
from backends.kernel import packets

MAX_MESSAGE = 160_000
_MAX_FDS = 4
_QUEUE = 1024
"""So many may ask at the same moment."""

READY = "INNKEEPER_SPAWNER_READY"
"""In a spawner's environment: the descriptor that it closes when it listens."""


class Closed(Exception):
    """The peer has gone."""


def send(sock: socket.socket, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message. Raises Closed, InnkeeperError if it is too long."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_MESSAGE:
        raise InnkeeperError(f"the request is too long: {len(data)} bytes, at most {MAX_MESSAGE}")
    try:
        packets.send(sock, data, fds)
    except ConnectionError:
        raise Closed from None


def error_message(error: Exception) -> dict[str, Any]:
    """Return the answer that says what went wrong."""
    if not isinstance(error, InnkeeperError | OSError):
        error = InnkeeperError(f"it failed: {error!r}")
    kind = type(error).__name__ if isinstance(error, InnkeeperError) else ""
    code = error.exit_code if isinstance(error, StartFailed) else 125
    text = os_error_text(error) if isinstance(error, OSError) else error.message
    return {"error": text, "hint": getattr(error, "hint", ""), "exit_code": code, "kind": kind}


def error_in(answer: Mapping[str, Any], other: type[InnkeeperError] = StartFailed) -> InnkeeperError:
    """Return the error that an answer tells of, of the kind that it was; one that is not known here is of the other."""
    known = getattr(errors, str(answer.get("kind")), None)
    kind = _made_of_text(known) if isinstance(known, type) and issubclass(known, InnkeeperError) else None
    text, hint = str(answer["error"]), str(answer.get("hint", ""))
    if known is StartFailed or (kind is None and other is StartFailed):
        return StartFailed(text, exit_code=int(answer.get("exit_code", 125)), hint=hint)
    return (kind or other)(text, hint=hint)


def _made_of_text(kind: type[InnkeeperError]) -> type[InnkeeperError] | None:
    """Return the nearest kind that a text and a hint suffice for; None if it is only known to be an error of ours."""
    line = kind.__mro__[: kind.__mro__.index(InnkeeperError) + 1]
    own = [index for index, each in enumerate(line[:-1]) if "__init__" in vars(each)]
    found = line[own[-1] + 1] if own else kind
    return None if own and found is InnkeeperError else found


def receive_raw(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Return one packet and the descriptors that came with it, which the caller closes. Raises Closed."""
    data, fds = packets.receive(sock, MAX_MESSAGE + 1, _MAX_FDS)
    if not data:
        raise Closed
    return data, fds


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return one JSON message and its descriptors. Raises Closed, ValueError for what is no JSON object."""
    data, fds = receive_raw(sock)
    try:
        return decode(data), fds
    except ValueError:
        for fd in fds:
            os.close(fd)
        raise


def decode(data: bytes) -> dict[str, Any]:
    """Return the JSON object in a packet. Raises ValueError."""
    try:
        message = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message


def listen(path: Path) -> socket.socket:
    """Return a listening socket at path, replacing a dead one. The path may be of any length."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    path.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # sun_path holds 108 bytes; through the descriptor the name is short whatever the folder's is.
        sock.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    os.chmod(path, 0o600)
    sock.listen(_QUEUE)
    return sock


def connect(path: Path, timeout_s: float | None = None) -> socket.socket:
    """Connect to a socket. Raises OSError (FileNotFoundError, ConnectionRefusedError) if nobody listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Blocking: where the queue is full a socket with a timeout is told EAGAIN at once.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(timeout_s or 0), 0))
        sock.connect(f"/proc/self/fd/{folder}/{path.name}")
        sock.settimeout(timeout_s)
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(folder)
    return sock


def peer_pid(sock: socket.socket) -> int:
    """Return the process that listens or connected at the other end (SO_PEERCRED)."""
    pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def peer_is_trusted(sock: socket.socket) -> bool:
    """Say whether the peer is our own user or root."""
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid in (0, os.geteuid())
