"""Programs run in a live container beside its first one (`inn exec`).

A start is never waited for: the supervisor goes on with logs and other clients while the OCI runtime's stage
joins the container and becomes the program, and hears of it through a socket in its selector.
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
from backends.native import drivers, protocol
from backends.native.options import privileges
from backends.oci import join
from backends.oci.errors import NotRunning
from backends.oci.passage import Passage

if TYPE_CHECKING:
    from backends.native.supervisor import Supervisor

_TIMEOUT_S = 30.0


@dataclass(eq=False)
class _Session:
    client: socket.socket | None
    joining: Passage
    deadline_s: float
    terminal_fd: int | None = None
    runs: bool = False
    exit_code: int | None = None
    is_detached: bool = False
    """It goes on when its client goes away."""

    @property
    def pid(self) -> int:
        return self.joining.pid


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
        if self._owner.freezer.is_freezing or self._owner.group.is_frozen():
            raise WrongState(f"cannot run a program in {name}: it is paused", hint="resume it first")
        if not message.get("terminal") and len(fds) != 3:
            raise InnkeeperError("an exec without a terminal needs three descriptors")
        try:
            driver = drivers.get(self._owner.record.driver, self._owner.store.run_dir)
            joining = driver.begin_join(_request(self._owner, message, fds))
        except NotRunning:
            raise WrongState(f"cannot run a program in {name}: it has just ended") from None
        joining.sync.setblocking(False)
        session = _Session(client, joining, time.monotonic() + _TIMEOUT_S, is_detached=bool(message.get("detached")))
        self._sessions.append(session)
        self._owner.selector.register(joining.sync, selectors.EVENT_READ, lambda: self._hear(session))

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
            if session.joining.stage_pid == pid:
                session.joining.stage_pid = 0
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
            elif session.exit_code is None and not session.is_detached:
                os.kill(session.pid, signal.SIGHUP)

    def detach(self, client: socket.socket) -> None:
        """What a client ran goes on without it."""
        for session in self._sessions:
            if session.client is client:
                session.is_detached = True

    def end_all(self) -> None:
        """The container has ended, and with it every session."""
        for session in list(self._sessions):
            if session.runs:
                session.exit_code = 128 + signal.SIGKILL if session.exit_code is None else session.exit_code
                self._tell_of_end(session)
            else:
                self._fail(session, WrongState("the container has just ended"))

    def _hear(self, session: _Session) -> None:
        try:
            while not session.joining.hear():
                session.exit_code = self._ended_unheard.pop(session.pid, session.exit_code)
        except BlockingIOError:
            return
        except InnkeeperError as error:
            self._fail(session, error)
        except (OSError, ValueError):
            self._fail(session, StartFailed("the process died before it became the program"))
        else:
            self._announce(session)

    def _announce(self, session: _Session) -> None:
        self._owner.selector.unregister(session.joining.sync)
        joined = session.joining.result()
        session.runs = True
        if session.client is not None:
            terminal = [joined.terminal_fd] if joined.terminal_fd is not None else []
            with suppress(protocol.Closed, OSError):
                protocol.send(session.client, {"ok": True, "pid": session.pid}, terminal)
        for fd in (joined.pidfd, joined.terminal_fd):
            if fd is not None:
                os.close(fd)
        if session.exit_code is not None:
            self._tell_of_end(session)

    def _fail(self, session: _Session, error: InnkeeperError) -> None:
        self._owner.selector.unregister(session.joining.sync)
        session.joining.undo()
        self._sessions.remove(session)
        if session.client is not None:
            self._owner.requests.refuse(session.client, error)

    def _tell_of_end(self, session: _Session) -> None:
        self._sessions.remove(session)
        if session.client is not None:
            with suppress(protocol.Closed, OSError):
                protocol.send(session.client, {"exit_code": session.exit_code})


def _request(owner: Supervisor, message: Mapping[str, Any], fds: list[int]) -> join.JoinRequest:
    process = dict(owner.config["process"])
    terminal = bool(message.get("terminal"))
    process |= {
        "terminal": terminal,
        "args": message["args"],
        "cwd": message.get("cwd") or process["cwd"],
        "env": [*process["env"], *(["TERM=xterm"] if terminal else []), *message.get("env", ())],
    }
    config: Mapping[str, Any] = owner.config
    if message.get("privileged"):
        config, process = privileges.all_privileges(config, process)
    size = message.get("size")
    return join.JoinRequest(
        id=owner.id,
        pid=owner.init_pid,
        pidfd=owner.init_pidfd,
        config=config,
        process=process,
        group=owner.group,
        stdio=fds,
        size=(size[0], size[1]) if size else None,
        own_fds=owner.secrets.fds,
        user=message.get("user") or owner.record.user or ("0" if process["user"]["uid"] == 0 else None),
    )
