"""The container's first process, from fork to execve: it runs its part of the plan and becomes the program."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from backends.kernel import linux
from backends.native import program, protocol
from backends.native.plan import Plan
from backends.trace import Recorder, StepRecord

_FLUSH_AFTER_S = 0.005
_MAX_TEXT = 4000


class StepSender:
    """Sends step records to the supervisor, several in a message when they come fast."""

    def __init__(self, sync: socket.socket) -> None:
        self._sync = sync
        self._waiting: list[Any] = []
        self._sent_s = time.monotonic()

    def __call__(self, record: StepRecord) -> None:
        self._waiting.append(json.loads(record.to_json()))
        if record.error or time.monotonic() - self._sent_s > _FLUSH_AFTER_S:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            protocol.send(self._sync, {"steps": self._waiting})
            self._waiting, self._sent_s = [], time.monotonic()


def stage(plan: Plan, sync: socket.socket, run_init: Callable[[], None]) -> None:
    """Run in a fork of the supervisor: enter new namespaces and fork init, the first process in them.

    unshare(2) of a pid namespace takes effect for children only, hence the second fork. The stage ends at
    once and init is adopted by the supervisor, which is a subreaper.
    """
    sender = StepSender(sync)
    recorder = Recorder("stage", sender)
    try:
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        recorder.run_all(plan.stage)
        sender.flush()
        pid = os.fork()
        if pid == 0:
            run_init()
            os._exit(125)
        protocol.send(sync, {"pid": pid})
    except Exception as error:  # the end of a forked process
        report(sync, sender, error)


def run(
    plan: Plan,
    config: Mapping[str, Any],
    user: str | None,
    sync: socket.socket,
    stdio: Sequence[int],
    size: tuple[int, int] | None,
) -> None:
    """Run in init: mounts, wait for "go", pivot, privileges, exec. Comes back only if that failed."""
    sender = StepSender(sync)
    recorder = Recorder("init", sender)
    process = config["process"]
    try:
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        recorder.run_all(plan.init_alone)
        sender.flush()
        protocol.receive(sync)
        recorder.run_all(plan.init_joined)
        if process.get("terminal"):
            slave = program.open_terminal(sync, size)
            program.bind_console(slave)
            stdio = (slave, slave, slave)
        else:
            os.setsid()
        program.use_as_stdio(stdio)
        program.reset_signals()
        environment = program.become(config, user, recorder, process["cwd"])
        sender.flush()
        protocol.send(sync, {"ready": True})
        program.execute(process["args"], environment)
    except Exception as error:  # the end of a forked process
        report(sync, sender, error)


def report(sync: socket.socket, sender: StepSender, error: Exception) -> None:
    """Tell the supervisor why there is no program, after the steps so far."""
    text = str(error)
    if isinstance(error, OSError):
        text = (error.strerror or str(error)) + (f": {error.filename}" if isinstance(error.filename, str) else "")
    with suppress(protocol.Closed, OSError):  # without a supervisor nobody is left to tell
        sender.flush()
        failed = text[:_MAX_TEXT] or type(error).__name__
        protocol.send(sync, {"failed": failed, "exit_code": getattr(error, "exit_code", 125)})
