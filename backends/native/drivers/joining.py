"""A further program in a container of an installed runtime, without making the supervisor wait."""

from __future__ import annotations

import json
import os
import secrets as random
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from backends.native.drivers import bundle, command
from backends.native.drivers.console import ConsoleSocket
from backends.oci import messages, passage
from backends.oci.join_request import JoinRequest
from backends.oci.passage import Passage

if TYPE_CHECKING:
    from backends.native.drivers.runtime import Runtime

_TIMEOUT_S = 30.0


def begin(runtime: Runtime, request: JoinRequest) -> RuntimeJoining:
    """Fork the helper that calls the runtime and tells what came of it."""
    return RuntimeJoining(*passage.fork(request.own_fds, lambda theirs: _help(runtime, request, theirs)))


class RuntimeJoining(Passage):
    """A program on its way into a container; the stage is the helper."""

    _is_gone = False

    def take(self, message: Mapping[str, Any], fds: Sequence[int]) -> None:
        """Take hold of the program, which runs."""
        self.pid, self.is_ready = int(message["pid"]), True
        self.terminal_fd = fds[0] if fds else None
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:  # it has ended and been reaped already: a descriptor that stands for nothing
            self.pidfd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            self._is_gone = True

    def end_program(self) -> None:
        """Kill it, unless it has ended."""
        if self._is_gone:
            os.close(self.pidfd)
        else:
            super().end_program()


def _help(runtime: Runtime, request: JoinRequest, sync: socket.socket) -> None:
    signal.set_wakeup_fd(-1)
    folder = runtime.folder(request.id)
    name = f"exec-{random.token_hex(4)}"
    places = {kind: folder / f"{name}.{kind}" for kind in ("json", "pid", "log")}
    console = None
    try:
        account = bundle.account_in(f"/proc/{request.pid}/root", request.process, request.user)
        process = bundle.translated(request.process, account, request.size)
        places["json"].write_text(json.dumps(process))
        words = ["exec", "--detach", "--process", str(places["json"]), "--pid-file", str(places["pid"])]
        if process.get("terminal"):
            console = ConsoleSocket(folder, f"{name}.tty")
            words += ["--tty", "--console-socket", f"{name}.tty"]
        call = runtime.words(request.id, *words)
        call[call.index("--log") + 1] = str(places["log"])
        stdio = () if console is not None else request.stdio
        command.run(call, stdio=stdio, folder=folder, log=places["log"], timeout_s=_TIMEOUT_S)
        fds = [console.take()] if console is not None else []
        messages.send(sync, {"pid": int(places["pid"].read_text())}, fds)
    except Exception as error:  # the end of a forked process
        with suppress(messages.Closed, OSError):
            messages.send(sync, messages.failure(error))
    finally:
        if console is not None:
            console.close()
        for path in places.values():
            path.unlink(missing_ok=True)
