"""Running a program in a live container, beside its first one.

::

    stage   enters the container's namespaces (by a pidfd, so of no other process), forks, ends
    child   the container's cgroup · session, keyring, terminal · user, capabilities, filter · program found · execve

`join()` waits until the program runs; a supervisor that must not wait uses `begin()` and `Joining.hear()`.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from backends.errors import StartFailed, os_error_text
from backends.kernel import joining, linux
from backends.kernel.account import Account
from backends.kernel.cgroup import Cgroup
from backends.kernel.cgroup_entrance import EnterGroup, Entrance
from backends.kernel.joining import FILES
from backends.kernel.keyring import JoinSessionKeyring
from backends.kernel.title import hide_arguments
from backends.oci import entering, messages, process, program, terminal
from backends.oci.ending import end
from backends.oci.errors import NotRunning, OciError
from backends.oci.messages import StepRunner
from backends.oci.request import check_descriptors
from backends.oci.stage import TITLE
from backends.oci.state import start_ticks
from backends.trace import Recorder, Step, StepRecord


@dataclass(slots=True)
class JoinRequest:
    """One program to be run in a live container."""

    id: str
    pid: int
    """Of the container's first process."""

    config: Mapping[str, Any]
    """The container's config.json."""

    process: Mapping[str, Any]
    """The program, as `process` of a config.json."""

    started_ticks: int | None = None
    """When the first process began (field 22 of /proc/PID/stat): another with its pid is refused."""

    pidfd: int = -1
    """Of the first process, from one who knew it: then nothing has to be checked."""

    group: Cgroup | None = None
    """The container's; entered before anything else."""

    sub_groups: Sequence[str] = ()
    """Groups below it to be entered instead: "PATH", or "CONTROLLER[,CONTROLLER]:PATH"."""

    stdio: Sequence[int] = (0, 1, 2)
    console: int | None = None
    """A connected AF_UNIX socket that gets the terminal's master; None: it comes back."""

    plain_newlines: bool = False
    """As in CreateRequest."""

    size: tuple[int, int] | None = None
    preserve_fds: int = 0
    listen_fds: int = 0
    user: str | None = None
    """Looked up in the container's own files, in the place of process.user."""

    state: Mapping[str, Any] | None = None
    """The container's OCI state, for who is asked about system calls."""

    more_environment: Sequence[str] = ()
    ignore_paused: bool = False
    no_new_keyring: bool = False
    own_fds: Sequence[int] = ()
    """Descriptors of the runtime that the stage shall not have for a moment."""

    is_traced: bool = False
    timeout_s: float | None = None

    @property
    def first_fd(self) -> int:
        """The first descriptor that the program does not get."""
        return 3 + self.listen_fds + self.preserve_fds


@dataclass(slots=True)
class Joined:
    """A program that runs in a container; adopted by the nearest subreaper above the caller, or the caller itself."""

    pid: int
    pidfd: int
    """The caller closes it."""

    terminal_fd: int | None = None


def join(request: JoinRequest, recorder: Recorder | None = None) -> Joined:
    """Run the program and wait for its execve. Raises NotRunning, OciError, StartFailed with nothing left of it."""
    joining_ = begin(request, recorder)
    joining_.sync.settimeout(request.timeout_s)
    try:
        while not joining_.hear():
            pass
        return joining_.result()
    except BaseException as error:
        joining_.undo()
        if isinstance(error, TimeoutError):
            raise StartFailed(f"the program did not start within {request.timeout_s:.0f} s") from error
        if isinstance(error, OSError):
            raise StartFailed(os_error_text(error)) from error
        raise


def begin(request: JoinRequest, recorder: Recorder | None = None) -> Joining:
    """Fork the stage. Raises NotRunning, OciError."""
    check_descriptors(request.first_fd - 3)
    pidfd = request.pidfd if request.pidfd >= 0 else _open_process(request)
    try:
        if request.group is not None and not request.ignore_paused and request.group.is_frozen():
            raise OciError("cannot exec in a paused container (use --ignore-paused to override)")
        # Compiled here, where files may be read; the child then finds it ready.
        process.privilege_steps(request.config, request.process, Account(0, 0, (), "/"))
        return _fork(request, pidfd, recorder)
    finally:
        if pidfd != request.pidfd:
            os.close(pidfd)


def _open_process(request: JoinRequest) -> int:
    stopped = NotRunning("cannot exec in a stopped container")
    try:
        pidfd = os.pidfd_open(request.pid)
    except ProcessLookupError:
        raise stopped from None
    # Looked at after the descriptor was opened: it then is of the process that the number meant.
    if request.started_ticks is not None and start_ticks(request.pid) != request.started_ticks:
        os.close(pidfd)
        raise stopped
    return pidfd


def _fork(request: JoinRequest, pidfd: int, recorder: Recorder | None) -> Joining:
    ours, theirs = messages.pair()
    with theirs:
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                for fd in request.own_fds:
                    os.close(fd)
                _stage(request, pidfd, theirs)
            finally:
                os._exit(0)
    return Joining(request, ours, pid, recorder)


@dataclass(slots=True, eq=False)
class Joining:
    """A program on its way into a container."""

    request: JoinRequest
    sync: socket.socket
    """Readable when hear() has something to do."""

    stage_pid: int
    """0 once it has ended; reaped by hear()."""

    recorder: Recorder | None = None
    pid: int = 0
    pidfd: int = -1
    terminal_fd: int | None = None
    is_ready: bool = False
    _steps: list[Step] = field(default_factory=list)

    def hear(self) -> bool:
        """Take one message; True when the program runs. Raises StartFailed, BlockingIOError, OSError."""
        try:
            message, fds = messages.receive(self.sync)
        except messages.Closed:
            if self.is_ready:
                return True  # execve closed its end
            raise StartFailed("the process died before it became the program") from None
        if "failed" in message:
            raise StartFailed(message["failed"], exit_code=message["exit_code"], hint=message.get("hint", ""))
        if "steps" in message:
            for raw in message["steps"] if self.recorder is not None else ():
                self.recorder.keep(StepRecord(**raw))  # type: ignore[union-attr]
        elif "pid" in message:
            self._greet(int(message["pid"]))
        elif "terminal" in message:
            self.terminal_fd = fds[0]
        elif "seccomp" in message:
            self._send_listener(fds[0])
        elif "created" in message:
            self.is_ready = True
        return False

    def _greet(self, pid: int) -> None:
        self.pid, self.pidfd = pid, os.pidfd_open(pid)
        self._reap_stage()
        request, recorder = self.request, self.recorder or Recorder("runtime")
        recorder.run_all(process.parent_steps(request.config, request.process, pid))
        with suppress(messages.Closed):  # then it has said why, which is heard next
            messages.send(self.sync, {"go": True})

    def _reap_stage(self) -> None:
        if self.stage_pid:
            with suppress(ChildProcessError):  # a supervisor that reaps all was faster
                os.waitpid(self.stage_pid, 0)
            self.stage_pid = 0

    def _send_listener(self, fd: int) -> None:
        from backends.oci import notify

        request = self.request
        try:
            state = request.state or {
                "ociVersion": request.config["ociVersion"],
                "id": request.id,
                "status": "running",
                "pid": request.pid,
                "bundle": "",
            }
            notify.send(request.config["linux"]["seccomp"], state, self.pid, fd)
        finally:
            os.close(fd)

    def result(self) -> Joined:
        """Return the program that runs; descriptors are the caller's from then on."""
        self.sync.close()
        self._reap_stage()
        return Joined(self.pid, self.pidfd, self.terminal_fd)

    def undo(self) -> None:
        """End it, whatever it has become so far."""
        self.sync.close()
        if self.stage_pid:
            with suppress(ProcessLookupError):
                os.kill(self.stage_pid, signal.SIGKILL)
            self._reap_stage()
        if self.pidfd >= 0:
            end(self.pid, self.pidfd)
            self.pidfd = -1
        if self.terminal_fd is not None:
            os.close(self.terminal_fd)
            self.terminal_fd = None


def kinds_to_join(config: Mapping[str, Any], pid: int) -> list[str]:
    """Return the types of namespaces that a container has of its own, and that are not ours already."""
    entries = (config.get("linux") or {}).get("namespaces") or ()
    return [kind for kind in (entry["type"] for entry in entries) if _differs(kind, pid)]


def _differs(kind: str, pid: int) -> bool:
    name = FILES.get(kind, kind)
    return os.stat(f"/proc/{pid}/ns/{name}").st_ino != os.stat(f"/proc/self/ns/{name}").st_ino


def _stage(request: JoinRequest, pidfd: int, sync: socket.socket) -> None:
    """Run in a fork of the runtime: enter the cgroup and the namespaces, and fork the program's process."""
    signal.set_wakeup_fd(-1)
    runner = StepRunner("stage", sync, is_traced=request.is_traced)
    try:
        # Nobody in there shall trace us, or read our memory or our binary through /proc (CVE-2019-5736).
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        hide_arguments(TITLE)
        runner.run_all(process.affinity_steps(request.process, 0, final=False))
        entrance = None
        if request.group is not None:
            entrance = entering.entrance(request.group, request.sub_groups, request.pid)
        kinds = kinds_to_join(request.config, request.pid)
        program.forbid_imports()
        # Inside its namespace of cgroups the kernel lets nobody be born in a group, so the child enters that itself.
        last = [] if "user" in kinds else [kind for kind in kinds if kind == "cgroup"]
        joining.join_process(pidfd, [kind for kind in kinds if kind not in last])
        runner.flush()
        pid = os.fork() if entrance is None else entrance.fork()
        if pid == 0:
            _child(request, sync, entrance, pidfd, last)
            os._exit(125)
        messages.send(sync, {"pid": pid})
    except (ProcessLookupError, FileNotFoundError):
        runner.report(NotRunning("cannot exec in a container that has just ended"))
    except Exception as error:  # the end of a forked process
        runner.report(error)


def _child(
    request: JoinRequest, sync: socket.socket, entrance: Entrance | None, pidfd: int, namespaces: Sequence[str]
) -> None:
    runner = StepRunner("exec", sync, is_traced=request.is_traced)
    try:
        if entrance is not None:
            runner.run(EnterGroup(entrance.path, entrance))
        if namespaces:
            joining.join_process(pidfd, namespaces)
        # Entering a group with CPUs of its own has undone what was set before.
        runner.run_all(process.affinity_steps(request.process, 0, final=True))
        messages.receive(sync)
        os.setsid()
        terminal.reset_signals()
        if not request.no_new_keyring:
            runner.run(JoinSessionKeyring(f"_ses.{request.id}"))
        if request.process.get("terminal"):
            terminal.attach(
                "/", request.process, request.size, request.console, sync, plain_newlines=request.plain_newlines
            )
        else:
            terminal.use_as_stdio(request.stdio)
        found = program.become(
            runner,
            request.config,
            request.process,
            request.user,
            first_fd=request.first_fd,
            more_environment=[*request.more_environment, *program.listening(request.listen_fds)],
            take_listener=lambda fd: program.send_listener(sync, fd),
        )
        runner.flush()
        messages.send(sync, {"created": True})
        program.execute(found, request.first_fd, sync.fileno())
    except Exception as error:  # the end of a forked process
        runner.report(error)
