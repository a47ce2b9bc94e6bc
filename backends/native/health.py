"""Asking a container from time to time whether it does its work: a program run in it, whose exit code says so.

The supervisor runs it like any `exec`, through a socket pair in the place of a client. The last five results
are in health.json beside the record.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.container import HealthCheck
from backends.errors import InnkeeperError
from backends.native import protocol

if TYPE_CHECKING:
    from backends.native.supervisor import Supervisor

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
HEALTH = "health.json"
_KEPT = 5
_LONGEST_OUTPUT = 4096


class _Check:
    """One run of the program."""

    def __init__(self, deadline_s: float) -> None:
        self.began_s, self.deadline_s = time.time(), deadline_s
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.output_fd, self.writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.output = b""
        self.pid = 0

    def read_output(self) -> None:
        """Take what it has printed; what is too much is thrown away."""
        with suppress(BlockingIOError):
            while data := os.read(self.output_fd, 65536):
                self.output = (self.output + data)[:_LONGEST_OUTPUT]

    def close(self) -> None:
        """Let go of it; killed if it still runs."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)  # it is our child and not reaped: no other has its pid
        for sock in (self.ours, self.theirs):
            sock.close()
        os.close(self.output_fd)


class Health:
    """The health of one container."""

    def __init__(self, owner: Supervisor) -> None:
        self._owner = owner
        self._how: HealthCheck | None = None
        self._check: _Check | None = None
        self._state = ""
        self._failures = 0
        self._grace_until_s = 0.0
        self._results: list[dict[str, Any]] = []
        self.due_s: float | None = None
        """When look() has something to do, on time.monotonic's clock."""

    def begin(self) -> str:
        """The program runs: begin to ask. Returns the state for the record: "" where there is nothing to ask."""
        self._how = self._owner.record.health_check
        if self._how is None or not self._how.args:
            return ""
        now_s = time.monotonic()
        self._state, self._failures, self._results = STARTING, 0, []
        self._grace_until_s = now_s + self._how.start_period_s
        self.due_s = now_s + self._how.interval_s
        self._keep()
        return STARTING

    def end(self) -> None:
        """The program has ended."""
        self.due_s = None
        if self._check is not None:
            self._let_go(self._check)

    def look(self, now_s: float) -> None:
        """Begin a check, or give one up, if it is time."""
        if self.due_s is None or now_s < self.due_s or self._how is None:
            return
        if self._check is not None:
            self._judge(self._check, -1, f"no answer within {self._how.timeout_s:g} s")
        elif self._owner.standing.state == "running":
            self._begin_check(self._how, now_s)
        else:
            self.due_s = now_s + self._how.interval_s  # paused or stopping: not asked

    def _begin_check(self, how: HealthCheck, now_s: float) -> None:
        check = self._check = _Check(now_s + how.timeout_s)
        self.due_s = check.deadline_s
        check.ours.setblocking(False)
        check.theirs.setblocking(False)
        selector = self._owner.selector
        selector.register(check.ours, selectors.EVENT_READ, lambda: self._hear(check))
        selector.register(check.output_fd, selectors.EVENT_READ, lambda: self._take_output(check))
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.set_blocking(check.writing, True)
        try:
            message = {"op": "exec", "args": list(how.args), "env": [], "cwd": None, "user": None}
            self._owner.sessions.start(check.theirs, message, [null, check.writing, check.writing])
        except (InnkeeperError, OSError) as error:
            self._judge(check, -1, str(error))
        finally:
            os.close(null)
            os.close(check.writing)

    def _take_output(self, check: _Check) -> None:
        try:
            data = os.read(check.output_fd, 65536)
        except BlockingIOError:
            return
        check.output = (check.output + data)[:_LONGEST_OUTPUT]
        if not data:
            self._owner.selector.unregister(check.output_fd)

    def _hear(self, check: _Check) -> None:
        try:
            message, _ = protocol.receive(check.ours)
        except BlockingIOError:
            return
        except (protocol.Closed, OSError, ValueError):
            self._judge(check, -1, "its supervisor gave it up")
            return
        if "error" in message:
            self._judge(check, int(message.get("exit_code", -1)), str(message["error"]))
        elif "exit_code" in message:
            check.pid = 0
            self._judge(check, int(message["exit_code"]))
        elif "pid" in message:
            check.pid = int(message["pid"])

    def _judge(self, check: _Check, exit_code: int, text: str = "") -> None:
        if text and check.pid and _has_answered(check):
            return  # it ended at the last moment: its answer is the next we hear
        self._let_go(check)
        assert self._how is not None
        now_s = time.monotonic()
        self.due_s = now_s + self._how.interval_s
        said = text or check.output.decode("utf-8", "replace")
        result = {"start": check.began_s, "end": time.time(), "exit_code": exit_code, "output": said}
        self._results = [*self._results, result][-_KEPT:]
        if exit_code == 0:
            self._failures = 0
            self._become(HEALTHY)
        elif self._state != STARTING or now_s >= self._grace_until_s:
            self._failures += 1
            if self._failures >= self._how.retries:
                self._become(UNHEALTHY)
        self._keep()

    def _become(self, state: str) -> None:
        if state != self._state:
            self._state = state
            with suppress(OSError):
                self._owner.standing.has_health(state)
            self._owner.tell("health_status", health=state)

    def _keep(self) -> None:
        found = {"status": self._state, "failing_streak": self._failures, "log": self._results}
        with suppress(OSError):
            path = self._owner.store.folder(self._owner.id) / HEALTH
            draft = path.with_name(f".{HEALTH}")
            draft.write_text(json.dumps(found))
            draft.replace(path)

    def _let_go(self, check: _Check) -> None:
        self._check = None
        if check.pid and _has_answered(check):
            check.pid = 0
        check.read_output()
        for watched in (check.ours, check.output_fd):
            with suppress(KeyError):
                self._owner.selector.unregister(watched)
        self._owner.sessions.forget(check.theirs)
        check.close()


def _has_answered(check: _Check) -> bool:
    """Say whether word of its end waits in the socket: its pid is then reaped, and perhaps another's."""
    try:
        return bool(check.ours.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False


def read(folder: Path) -> dict[str, Any] | None:
    """Return what is on record of a container's health; None if it has none."""
    try:
        found = json.loads((folder / HEALTH).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
