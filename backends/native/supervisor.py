"""One process a container: it makes the container, keeps its log, answers on its socket, and records its end.

Single-threaded, forked from the spawner. It is a subreaper: init and exec sessions are its children even
though they were forked one level down. It outlives every client, the screen and the spawner.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from contextlib import suppress
from dataclasses import replace

from backends.errors import InnkeeperError, NotFound, StartFailed
from backends.kernel import linux, procfs
from backends.kernel.cgroup import CgroupHost
from backends.model import GuestState
from backends.native import protocol
from backends.native.launch import Launch, exit_code_of
from backends.native.log import LogWriter
from backends.native.network import Addresses
from backends.native.record import Status
from backends.native.requests import Requests
from backends.native.session import ExecSessions
from backends.native.stdin import InputPump
from backends.native.store import LOG, TRACE, ContainerStore
from backends.native.sweep import end_kernel_side, oom_kills_of
from backends.trace import Recorder, StepRecord

_READ = 65536
_FOREVER_S = 86_400.0
_LOCK_S = 10.0


class Supervisor:
    """The life of one run of one container."""

    def __init__(self, store: ContainerStore, container_id: str, host: CgroupHost) -> None:
        self.store, self.id, self.host = store, container_id, host
        # First: from here on nobody removes it. Who cleans up after an earlier run holds it for a moment.
        self.alive_fd = store.hold_life_lock(container_id, timeout_s=_LOCK_S)
        self.record = store.record(container_id)
        self.config = store.config(container_id)
        self.group = host.group(self.config["linux"]["cgroupsPath"])
        self.init_pid = 0
        self.init_pidfd = -1
        self.status = Status()
        self.selector = selectors.DefaultSelector()
        self.input: InputPump | None = None
        self.terminal_fd: int | None = None
        self.sessions = ExecSessions(self)
        self.requests = Requests(self)
        self.exit_code: int | None = None
        self.kill_at_s: float | None = None
        """When all of it is killed, on time.monotonic's clock; None: not."""

        self._note = ""
        self._outputs = 0
        self._trace = open(store.folder(container_id) / TRACE, "a", buffering=1)  # noqa: SIM115 - for life

    # ------------------------------------------------------------------ start

    def start(self, client: socket.socket) -> None:
        """Make the container and answer the client. Raises StartFailed after undoing everything."""
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        linux.set_process_name(f"inn:{self.record.name}")
        self._catch_signals()
        teller = _Teller(client)

        def keep(record: StepRecord) -> None:
            self._trace.write(record.to_json() + "\n")
            teller.tell({"step": record.to_json()})

        if self.group.exists():
            end_kernel_side(self.store, self.group, self.record)  # of a run whose supervisor died
        launch = Launch(self, Recorder("supervisor", keep), keep)
        try:
            launch.run()
            self._take_over(launch)
        except StartFailed as error:
            self._give_up(launch, error)
            raise
        except (OSError, InnkeeperError) as error:
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            failed = StartFailed(f"cannot keep it: {text}")
            self._give_up(launch, failed)
            raise failed from error
        teller.tell({"ok": True, "pid": self.init_pid})
        teller.close()

    def _take_over(self, launch: Launch) -> None:
        """The program runs: listen to it and to clients, and put on record that it lives."""
        self.init_pid, self.init_pidfd = launch.init_pid, launch.init_pidfd
        self.terminal_fd = launch.terminal_fd
        source = launch.terminal_fd if launch.terminal_fd is not None else launch.stdin_fd
        if source is not None:
            self.input = InputPump(self.selector, source, is_terminal=launch.terminal_fd is not None)
        self._log = LogWriter(self.store.folder(self.id) / LOG)
        for stream, fd in launch.outputs:
            self._watch_output(stream, fd)
        self.requests.listen(self.store.run_folder(self.id) / "control")
        self.status = Status(
            state=GuestState.RUNNING.value,
            pid=self.init_pid,
            pid_start=procfs.start_ticks(self.init_pid),
            boot_id=procfs.boot_id(),
            started_s=time.time(),
        )
        self.store.write_status(self.id, self.status)

    def _give_up(self, launch: Launch, error: StartFailed) -> None:
        launch.undo()
        with suppress(OSError, InnkeeperError):
            self._end_status(error.exit_code, f"did not start: {error.message}", ran=False)
        self.store.release_life_lock(self.id, self.alive_fd)

    def _catch_signals(self) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        self.selector.register(reading, selectors.EVENT_READ, lambda: self._drain(reading))

    def _drain(self, fd: int) -> None:
        with suppress(BlockingIOError):
            os.read(fd, 512)
        self._reap()

    # ------------------------------------------------------------------ loop

    def serve(self) -> None:
        """Serve until the program has ended and all it wrote is in the log."""
        self._reap()
        while self.exit_code is None or self._outputs:
            events = self.selector.select(self._patience_s())
            for key, _ in events:
                key.data()
            if self.exit_code is not None and not events:
                break  # the program has ended; a pipe still held open by what it left behind is not waited for
            self._do_what_is_due(time.monotonic())
        self._finish()

    def _patience_s(self) -> float:
        if self.exit_code is not None:
            return 0.0
        due = [at for at in (self.kill_at_s, self.sessions.next_deadline()) if at is not None]
        return min(_FOREVER_S, max(0.0, min(due) - time.monotonic())) if due else _FOREVER_S

    def _do_what_is_due(self, now_s: float) -> None:
        self.sessions.give_up_on_late(now_s)
        if self.kill_at_s is not None and now_s >= self.kill_at_s:
            self.kill_at_s = None
            try:
                self.group.kill()
            except InnkeeperError:
                self.kill_at_s = now_s + 5.0  # a task that waits in the kernel dies when it comes out

    def _reap(self) -> None:
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.init_pid:
                self.exit_code = exit_code_of(wait_status)
                self._note = _note(wait_status)
            else:
                self.sessions.ended(pid, exit_code_of(wait_status))

    def _finish(self) -> None:
        assert self.exit_code is not None
        oom_kills = oom_kills_of(self.group)
        try:
            end_kernel_side(self.store, self.group, self.record)
        except InnkeeperError as error:
            self._note = f"{self._note}; {error.message}".removeprefix("; ")
        self._reap()
        self.sessions.end_all()
        with suppress(OSError, NotFound):  # a full disk; the exit code is still told
            self._end_status(self.exit_code, self._note, oom_kills=oom_kills)
            (self.store.run_folder(self.id) / "control").unlink(missing_ok=True)
        # First the lock, then the news: who hears of the end may start or remove the container at once.
        self.store.release_life_lock(self.id, self.alive_fd)
        self._log.close()  # which wakes those who follow it
        self.requests.tell_of_end(self.exit_code)
        if self.record.auto_remove:
            self._remove()

    def _remove(self) -> None:
        with suppress(NotFound, OSError), self.store.making(), self.store.locked(self.id):
            record = self.store.record(self.id)
            self.store.remove(record)
            if record.address and record.bridge:
                Addresses(self.store.state_dir, record.bridge).release(record.address)

    def set_state(self, state: GuestState) -> None:
        """Put another live state on record."""
        self.status = replace(self.status, state=state.value)
        self.store.write_status(self.id, self.status)

    def _end_status(self, exit_code: int, note: str, *, ran: bool = True, oom_kills: int | None = None) -> None:
        if oom_kills:
            note = f"{note}; {oom_kills} killed for want of memory" if note else "killed for want of memory"
        before = self.store.status(self.id)
        self.store.write_status(
            self.id,
            Status(
                state=(GuestState.STOPPED if ran or before.started_s else GuestState.CREATED).value,
                boot_id=procfs.boot_id(),
                started_s=self.status.started_s if ran else before.started_s,
                finished_s=time.time(),
                exit_code=exit_code,
                oom_kills=oom_kills,
                note=note,
            ),
        )

    # ------------------------------------------------------------------ output

    def _watch_output(self, stream: str, fd: int) -> None:
        os.set_blocking(fd, False)
        self._outputs += 1
        self.selector.register(fd, selectors.EVENT_READ, lambda: self._copy(stream, fd))

    def _copy(self, stream: str, fd: int) -> None:
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # EIO: the last process closed the terminal
        if data:
            self._log.write(stream, data)
            return
        self.selector.unregister(fd)
        self._outputs -= 1
        if fd != self.terminal_fd:
            os.close(fd)


class _Teller:
    """Tells the client that asked for the start how it goes; one that does not listen is left alone."""

    def __init__(self, client: socket.socket) -> None:
        self._client: socket.socket | None = client

    def tell(self, message: dict[str, object]) -> None:
        if self._client is None:
            return
        try:
            protocol.send(self._client, message)
        except (protocol.Closed, OSError):
            self.close()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _note(wait_status: int) -> str:
    if not os.WIFSIGNALED(wait_status):
        return ""
    number = os.WTERMSIG(wait_status)
    known = {int(found): found.name for found in signal.Signals}
    return f"killed by {known.get(number, f'signal {number}')}"
