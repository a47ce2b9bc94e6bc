"""The runtime's end of the connection to a container's stage and init: what they tell, and what they ask for."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from backends.kernel.cgroup_entrance import Entrance
from backends.oci import messages
from backends.oci.request import Created, CreateRequest
from backends.oci.work import Work

_LAST_WORD_S = 1.0


class Conversation:
    """From the fork until init has been created, or has said why not."""

    def __init__(self, sync: socket.socket, request: CreateRequest, created: Created, work: Work) -> None:
        self.sync = sync
        self._request, self._created, self._work = request, created, work
        self.stage_pid = 0
        """0: there is none, or it has ended."""

    def go(self, state: Mapping[str, Any] | None) -> None:
        """Tell init to go on; state is for hooks that it runs."""
        with suppress(messages.Closed):  # then it has said why, which is heard next
            messages.send(self.sync, {"go": True, "state": state})

    def hear_of(self, awaited: str) -> None:
        """Take messages until the awaited one. Raises StartFailed as they say; Closed, OSError."""
        while True:
            message, fds = messages.receive(self.sync)
            self._take(message, fds)
            if awaited in message:
                return

    def _take(self, message: dict[str, Any], fds: list[int]) -> None:
        if "steps" in message:
            self._work.keep(message["steps"])
        elif "need" in message:
            self._serve(message["need"])
        elif "pid" in message:
            if not self._meet(int(message["pid"])):
                self.hear_of("failed")  # a subreaper was faster; before its end init has said why
        elif "terminal" in message:
            self._created.terminal_fd = fds[0]
        elif "seccomp" in message:
            self._send_listener(fds[0])
        messages.raise_failure(message)

    def _meet(self, pid: int) -> bool:
        """Take hold of init; False if it has ended and somebody has reaped it."""
        try:
            self._created.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        finally:
            self._reap_stage()
        self._created.pid = pid
        return True

    def _serve(self, need: str) -> None:
        if need == "group":
            self._send_entrance()
            return
        part = self._request.config["linux"]
        if need == "maps":
            from backends.kernel.userns import MapUsers

            maps = part.get("uidMappings") or (), part.get("gidMappings") or ()
            self._work.run([MapUsers(self.stage_pid, *maps)])
        else:
            from backends.kernel.timens import SetOffsets

            self._work.run([SetOffsets(self.stage_pid, part["timeOffsets"])])
        messages.send(self.sync, {"ok": True})

    def _send_entrance(self) -> None:
        """The group is made by now: the stage gets the files by which init enters it."""
        assert self._request.group is not None
        entrance = Entrance(self._request.group)
        try:
            fds = [fd for fd in entrance.fds if fd >= 0]
            messages.send(self.sync, {"has_v2": entrance.has_v2}, fds)
        finally:
            entrance.close()

    def _send_listener(self, fd: int) -> None:
        from backends.oci import notify

        try:
            state = self._request.state("creating", self._created.pid)
            notify.send(self._request.config["linux"]["seccomp"], state, self._created.pid, fd)
        finally:
            os.close(fd)

    def end(self) -> None:
        """End the stage, and hear of init if that had failed before the stage told of it."""
        if self.stage_pid:
            self.sync.settimeout(_LAST_WORD_S)
            with suppress(messages.Closed, OSError, ValueError):
                while not self._created.pid:
                    message, fds = messages.receive(self.sync)
                    for fd in fds:
                        os.close(fd)
                    if "pid" in message and not self._meet(int(message["pid"])):
                        break
        self.sync.close()
        if self.stage_pid:
            with suppress(ProcessLookupError):
                os.kill(self.stage_pid, signal.SIGKILL)
            self._reap_stage()

    def _reap_stage(self) -> None:
        with suppress(ChildProcessError):
            os.waitpid(self.stage_pid, 0)
        self.stage_pid = 0
