"""How the runtime, the stage and init talk: JSON messages over one SOCK_SEQPACKET pair, descriptors beside them.

::

    stage → runtime   {"need": "maps" | "offsets"}, answered by {"ok": …}; {"pid": n}
    init → runtime    {"steps": […]} · {"terminal": true}+fd · {"seccomp": true}+fd · {"created": true}
    runtime → init    {"go": true} · {"start": true} (SocketGate)
    both →            {"failed": text, "exit_code": n}; end of file after "created" is a successful execve
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from backends import quick_json
from backends.errors import InnkeeperError, StartFailed, os_error_text
from backends.kernel import packets
from backends.kernel.mounts import RootfsFailed
from backends.trace import Recorder, StepRecord

_MAX_MESSAGE = 200_000
_MAX_FDS = 32
_MAX_TEXT = 4000
_FLUSH_AFTER_S = 0.005
_MOST_WAITING = 100
"""So many steps, whatever is in them, fit into one message."""


class Closed(Exception):
    """The peer has gone."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(sock: socket.socket, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message. Raises Closed."""
    data = quick_json.dumps(message).encode()
    try:
        packets.send(sock, data, fds)
    except ConnectionError:
        raise Closed from None


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return one message and its descriptors, which the caller closes. Raises Closed, OSError, ValueError."""
    data, fds = packets.receive(sock, _MAX_MESSAGE, _MAX_FDS)
    if not data:
        raise Closed
    try:
        message = quick_json.loads(data.decode())
        if not isinstance(message, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError):
        for fd in fds:
            os.close(fd)
        raise ValueError("no message") from None
    return message, fds


class StepRunner:
    """Runs steps in the stage, init or a joiner; what becomes of them is sent to the runtime if it listens.

    Without a trace only the step at work is remembered, for the error text.
    """

    def __init__(self, process: str, sync: socket.socket, *, is_traced: bool) -> None:
        self._sync = sync
        self._recorder = Recorder(process, self._take) if is_traced else None
        self._waiting: list[Any] = []
        self._sent_s = time.monotonic()
        self.at_work = ""
        """Of a quiet runner: the step that failed."""

    def run(self, step: Any) -> Any:
        """Run one step and return its result."""
        if self._recorder is not None:
            return self._recorder.run(step)
        try:
            return step.run()
        except Exception:
            self.at_work = step.describe()
            raise

    def run_all(self, steps: Sequence[Any]) -> None:
        """Run steps in order; the first that fails ends it."""
        for step in steps:
            self.run(step)

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            send(self._sync, {"steps": self._waiting})
            self._waiting, self._sent_s = [], time.monotonic()

    def report(self, error: BaseException) -> None:
        """Tell the runtime why there is no program, after the steps so far."""
        with suppress(Closed, OSError):  # without a runtime nobody is left to tell
            self.flush()
            send(self._sync, failure(error, self.at_work))

    def _take(self, record: StepRecord) -> None:
        self._waiting.append({name: getattr(record, name) for name in StepRecord.__slots__})
        if record.error:
            self.at_work = record.text
        is_time = time.monotonic() - self._sent_s > _FLUSH_AFTER_S or len(self._waiting) >= _MOST_WAITING
        if record.error or is_time:
            self.flush()


def failure(error: BaseException, at_work: str = "") -> dict[str, Any]:
    """Return the message that says why there is no program."""
    text = os_error_text(error) if isinstance(error, OSError) else str(error)
    before = f"cannot {at_work}: " if at_work else ""
    if isinstance(error, RootfsFailed):
        before = "error during container init: "
    message = {"failed": (before + (text or type(error).__name__))[:_MAX_TEXT]}
    code = getattr(error, "exit_code", 125)
    # Errors of the kernel and of steps have exit code 1 for a command line; of a start it is docker's 125.
    is_docker_code = code in (126, 127)
    hint = error.hint if isinstance(error, InnkeeperError) else ""
    return {**message, "exit_code": code if is_docker_code else 125, "hint": hint}


def raise_failure(message: dict[str, Any]) -> None:
    """Raise StartFailed if that is what a message says."""
    if "failed" in message:
        raise StartFailed(message["failed"], exit_code=message["exit_code"], hint=message.get("hint", ""))
