"""Programs run in a live container beside its first one (`inn exec`)."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backends.errors import InnkeeperError, StartFailed, WrongState
from backends.kernel import linux, namespaces
from backends.native import program, protocol
from backends.native.init import StepSender, report
from backends.trace import Recorder

if TYPE_CHECKING:
    from backends.native.supervisor import Supervisor

_TIMEOUT_S = 30.0


@dataclass
class _Session:
    client: socket.socket | None
    terminal: bool


class ExecSessions:
    """The exec sessions of one supervisor."""

    def __init__(self, owner: Supervisor) -> None:
        self._owner = owner
        self._sessions: dict[int, _Session] = {}

    def start(self, client: socket.socket, message: Mapping[str, Any], fds: list[int]) -> None:
        """Start a program; the client is told {"ok", "pid"} with the terminal's master, later {"exit_code"}.

        Raises WrongState (paused), StartFailed.
        """
        if self._owner.group.is_frozen():
            raise WrongState(f"cannot run a program in {self._owner.record.name}: it is paused", hint="resume it first")
        terminal = bool(message.get("terminal"))
        if not terminal and len(fds) != 3:
            raise InnkeeperError("an exec without a terminal needs three descriptors")
        sync, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with sync, theirs:
            sync.settimeout(_TIMEOUT_S)
            stage = os.fork()
            if stage == 0:
                try:
                    sync.close()
                    _stage(self._owner, message, fds, theirs)
                finally:
                    os._exit(0)
            theirs.close()
            pid, master = self._hear(sync, stage)
        self._sessions[pid] = _Session(client, terminal)
        answer = [master] if master is not None else []
        with suppress(protocol.Closed, OSError):
            protocol.send(client, {"ok": True, "pid": pid}, answer)
        if master is not None:
            os.close(master)

    def _hear(self, sync: socket.socket, stage: int) -> tuple[int, int | None]:
        pid, master = 0, None
        while True:
            try:
                message, fds = protocol.receive(sync)
            except protocol.Closed:
                if not pid:
                    raise StartFailed("the program's stage died") from None
                return pid, master
            except TimeoutError:
                raise StartFailed(f"the program did not start within {_TIMEOUT_S:.0f} s") from None
            if "pid" in message:
                pid = int(message["pid"])
                os.waitpid(stage, 0)
            elif "terminal" in message:
                master = fds[0]
            elif "failed" in message:
                if master is not None:
                    os.close(master)
                with suppress(ChildProcessError):
                    os.waitpid(pid or stage, 0)
                raise StartFailed(message["failed"], exit_code=message["exit_code"])

    def ended(self, pid: int, exit_code: int) -> None:
        """Tell the client of a session that its program ended."""
        session = self._sessions.pop(pid, None)
        if session is not None and session.client is not None:
            with suppress(protocol.Closed, OSError):
                protocol.send(session.client, {"exit_code": exit_code})

    def forget(self, client: socket.socket) -> None:
        """A client went away: what it ran is told so, as a terminal that hangs up does."""
        for pid, session in self._sessions.items():
            if session.client is client:
                session.client = None
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGHUP)

    def end_all(self) -> None:
        """The container has ended, and with it every session."""
        for pid in list(self._sessions):
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
            self.ended(pid, 137)


def _stage(owner: Supervisor, message: Mapping[str, Any], fds: list[int], sync: socket.socket) -> None:
    """Enter the container's cgroup and namespaces, and fork the program into its pid namespace."""
    sender = StepSender(sync)
    try:
        # Not dumpable: a process of the container could otherwise open this interpreter through
        # /proc/PID/exe or read its memory, as soon as it is seen in there (CVE-2019-5736).
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        pidfd = os.pidfd_open(owner.init_pid)
        owner.group.enter(os.getpid())
        types = tuple(namespace["type"] for namespace in owner.config["linux"]["namespaces"])
        namespaces.join_all(pidfd, types)
        pid = os.fork()
        if pid == 0:
            _child(owner, message, fds, sync)
            os._exit(125)
        protocol.send(sync, {"pid": pid})
    except ProcessLookupError:
        report(sync, sender, WrongState("the container has just ended"))
    except (OSError, InnkeeperError, protocol.Closed) as error:
        report(sync, sender, error)


def _child(owner: Supervisor, message: Mapping[str, Any], fds: list[int], sync: socket.socket) -> None:
    sender = StepSender(sync)
    recorder = Recorder("exec")
    process = owner.config["process"]
    try:
        if message.get("terminal"):
            size = message.get("size")
            slave = program.open_terminal(sync, (size[0], size[1]) if size else None)
            stdio = [slave, slave, slave]
        else:
            os.setsid()
            stdio = fds
        program.use_as_stdio(stdio)
        program.reset_signals()
        more = ["TERM=xterm", *message.get("env", ())] if message.get("terminal") else message.get("env", ())
        folder = message.get("cwd") or process["cwd"]
        environment = program.become(owner.config, message.get("user") or owner.record.user, recorder, folder, more)
        program.execute(message["args"], environment)
    except (OSError, InnkeeperError, LookupError, protocol.Closed, program.ExecFailed) as error:
        report(sync, sender, error)
