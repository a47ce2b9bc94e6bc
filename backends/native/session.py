"""Programs run in a live container beside its first one (`inn exec`).

A start is never waited for: the supervisor goes on with logs and other clients while a stage joins the
container and becomes the program, and hears of it through a socket in its selector.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
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


@dataclass(eq=False)
class _Session:
    client: socket.socket | None
    sync: socket.socket
    """Where the stage and the program's process report, until execve closes their end."""

    stage: int
    """0 once it has ended."""

    deadline_s: float
    pid: int = 0
    terminal_fd: int | None = None
    is_ready: bool = False
    runs: bool = False
    exit_code: int | None = None


class ExecSessions:
    """The exec sessions of one supervisor."""

    def __init__(self, owner: Supervisor) -> None:
        self._owner = owner
        self._sessions: list[_Session] = []
        self._ended_unheard: dict[int, int] = {}
        """Exit codes of children not told of yet: a program can end before its pid has been read."""

    def start(self, client: socket.socket, message: Mapping[str, Any], fds: list[int]) -> None:
        """Begin to start a program; the client is told {"ok", "pid"} with its terminal, later {"exit_code"}.

        Raises WrongState (paused).
        """
        name = self._owner.record.name
        if self._owner.exit_code is not None:
            raise WrongState(f"cannot run a program in {name}: it has just ended")
        if self._owner.group.is_frozen():
            raise WrongState(f"cannot run a program in {name}: it is paused", hint="resume it first")
        if not message.get("terminal") and len(fds) != 3:
            raise InnkeeperError("an exec without a terminal needs three descriptors")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            stage = os.fork()
            if stage == 0:
                try:
                    ours.close()
                    _stage(self._owner, message, fds, theirs)
                finally:
                    os._exit(0)
        ours.setblocking(False)
        session = _Session(client, ours, stage, time.monotonic() + _TIMEOUT_S)
        self._sessions.append(session)
        self._owner.selector.register(ours, selectors.EVENT_READ, lambda: self._hear(session))

    def next_deadline(self) -> float | None:
        """Return when give_up_on_late has something to do, on time.monotonic's clock."""
        return min((session.deadline_s for session in self._sessions if not session.runs), default=None)

    def give_up_on_late(self, now_s: float) -> None:
        """End what has not become a program in time."""
        for session in [s for s in self._sessions if not s.runs and now_s >= s.deadline_s]:
            self._fail(session, StartFailed(f"the program did not start within {_TIMEOUT_S:.0f} s"))

    def ended(self, pid: int, exit_code: int) -> None:
        """Take note that a child ended, and tell the client of its session."""
        for session in self._sessions:
            if session.stage == pid:
                session.stage = 0
                return
            if session.pid == pid:
                session.exit_code = exit_code
                if session.runs:
                    self._tell_of_end(session)
                return
        if self.next_deadline() is not None:
            self._ended_unheard[pid] = exit_code
        else:
            self._ended_unheard.clear()

    def forget(self, client: socket.socket) -> None:
        """A client went away: what it ran is told so, as a terminal that hangs up does."""
        for session in [s for s in self._sessions if s.client is client]:
            session.client = None
            if not session.runs:
                self._fail(session, WrongState("its client went away"))
            elif session.exit_code is None:
                os.kill(session.pid, signal.SIGHUP)

    def end_all(self) -> None:
        """The container has ended, and with it every session."""
        for session in list(self._sessions):
            if session.runs:
                session.exit_code = 128 + signal.SIGKILL if session.exit_code is None else session.exit_code
                self._tell_of_end(session)
            else:
                self._fail(session, WrongState("the container has just ended"))

    def _hear(self, session: _Session) -> None:
        while True:
            try:
                message, fds = protocol.receive(session.sync)
            except BlockingIOError:
                return
            except (protocol.Closed, OSError, ValueError):
                if session.is_ready:
                    self._announce(session)
                else:
                    self._fail(session, StartFailed("the process died before it became the program"))
                return
            if "pid" in message:
                session.pid = int(message["pid"])
                session.exit_code = self._ended_unheard.pop(session.pid, None)
            elif "terminal" in message:
                session.terminal_fd = fds[0]
            elif "ready" in message:
                session.is_ready = True
            elif "failed" in message:
                self._fail(session, StartFailed(message["failed"], exit_code=message["exit_code"]))
                return

    def _announce(self, session: _Session) -> None:
        self._stop_hearing(session)
        session.runs = True
        if session.client is not None:
            terminal = [session.terminal_fd] if session.terminal_fd is not None else []
            with suppress(protocol.Closed, OSError):
                protocol.send(session.client, {"ok": True, "pid": session.pid}, terminal)
        self._close_terminal(session)
        if session.exit_code is not None:
            self._tell_of_end(session)

    def _fail(self, session: _Session, error: InnkeeperError) -> None:
        self._stop_hearing(session)
        self._close_terminal(session)
        self._sessions.remove(session)
        for pid in (session.stage, session.pid if session.exit_code is None else 0):
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if session.client is not None:
            self._owner.requests.refuse(session.client, error)

    def _tell_of_end(self, session: _Session) -> None:
        self._sessions.remove(session)
        if session.client is not None:
            with suppress(protocol.Closed, OSError):
                protocol.send(session.client, {"exit_code": session.exit_code})

    def _stop_hearing(self, session: _Session) -> None:
        self._owner.selector.unregister(session.sync)
        session.sync.close()

    def _close_terminal(self, session: _Session) -> None:
        if session.terminal_fd is not None:
            os.close(session.terminal_fd)
            session.terminal_fd = None


def _stage(owner: Supervisor, message: Mapping[str, Any], fds: list[int], sync: socket.socket) -> None:
    """Enter the container's cgroup and namespaces, and fork the program into its pid namespace."""
    sender = StepSender(sync)
    try:
        # Not dumpable: a process of the container could otherwise open this interpreter through
        # /proc/PID/exe or read its memory, as soon as it is seen in there (CVE-2019-5736).
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        owner.group.enter(os.getpid())
        types = tuple(namespace["type"] for namespace in owner.config["linux"]["namespaces"])
        # By the pidfd held since its start: were its pid another's by now, setns says ESRCH.
        namespaces.join_all(owner.init_pidfd, types)
        pid = os.fork()
        if pid == 0:
            _child(owner, message, fds, sync)
            os._exit(125)
        protocol.send(sync, {"pid": pid})
    except ProcessLookupError:
        report(sync, sender, WrongState("the container has just ended"))
    except Exception as error:  # the end of a forked process
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
        namespaces.JoinSessionKeyring(f"_ses.{owner.id}").run()
        more = ["TERM=xterm", *message.get("env", ())] if message.get("terminal") else message.get("env", ())
        folder = message.get("cwd") or process["cwd"]
        environment = program.become(owner.config, message.get("user") or owner.record.user, recorder, folder, more)
        protocol.send(sync, {"ready": True})
        program.execute(message["args"], environment)
    except Exception as error:  # the end of a forked process
        report(sync, sender, error)
