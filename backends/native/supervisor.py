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
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from backends.errors import InnkeeperError, NotFound, StartFailed
from backends.kernel import linux, procfs
from backends.kernel.cgroup import CgroupHost
from backends.model import GuestState
from backends.native import protocol
from backends.native.launch import Launch, exit_code_of
from backends.native.log import LogWriter
from backends.native.network import Addresses, detach
from backends.native.record import Status
from backends.native.session import ExecSessions
from backends.native.stdin import InputPump
from backends.native.store import LOG, TRACE, ContainerStore
from backends.trace import Recorder, StepRecord

_READ = 65536


class Supervisor:
    """The life of one run of one container."""

    def __init__(self, store: ContainerStore, container_id: str, host: CgroupHost) -> None:
        self.store, self.id, self.host = store, container_id, host
        self.record = store.record(container_id)
        self.config = store.config(container_id)
        self.group = host.group(self.config["linux"]["cgroupsPath"])
        self.init_pid = 0
        self.status = Status()
        self._alive_fd = store.hold_life_lock(container_id)
        self._selector = selectors.DefaultSelector()
        self._waiting: list[socket.socket] = []
        self._input: InputPump | None = None
        self._terminal_fd: int | None = None
        self._outputs = 0
        self._exit: int | None = None
        self._kill_at: float | None = None
        self._trace = open(store.folder(container_id) / TRACE, "a", buffering=1)  # noqa: SIM115 - for life
        self._sessions = ExecSessions(self)

    # ------------------------------------------------------------------ start

    def start(self, client: socket.socket | None) -> None:
        """Make the container and answer the client. Raises StartFailed after undoing everything."""
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        linux.set_process_name(f"inn:{self.record.name}")
        self._catch_children()
        recorder = Recorder("supervisor", lambda record: self._keep(record, client))
        launch = Launch(self, recorder, lambda record: self._keep(record, client))
        try:
            launch.run()
        except StartFailed as error:
            launch.undo()
            self._end_status(error.exit_code, f"did not start: {error.message}", ran=False)
            raise
        self.init_pid = launch.init_pid
        self._terminal_fd = launch.terminal_fd
        source = launch.terminal_fd if launch.terminal_fd is not None else launch.stdin_fd
        if source is not None:
            self._input = InputPump(self._selector, source, is_terminal=launch.terminal_fd is not None)
        self._log = LogWriter(self.store.folder(self.id) / LOG)
        for stream, fd in launch.outputs:
            self._watch_output(stream, fd)
        self._listener = protocol.listen(self.store.run_folder(self.id) / "control")
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self.status = Status(
            state=GuestState.RUNNING.value,
            pid=self.init_pid,
            pid_start=procfs.start_ticks(self.init_pid),
            boot_id=procfs.boot_id(),
            started_s=time.time(),
        )
        self.store.write_status(self.id, self.status)
        if client is not None:
            with suppress(protocol.Closed, OSError):
                protocol.send(client, {"ok": True, "pid": self.init_pid})
            client.close()

    def _keep(self, record: StepRecord, client: socket.socket | None) -> None:
        self._trace.write(record.to_json() + "\n")
        if client is not None:
            with suppress(protocol.Closed, OSError):
                protocol.send(client, {"step": record.to_json()})

    def _catch_children(self) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        self._selector.register(reading, selectors.EVENT_READ, lambda: self._drain(reading))

    def _drain(self, fd: int) -> None:
        with suppress(BlockingIOError):
            os.read(fd, 512)
        self._reap()

    # ------------------------------------------------------------------ loop

    def serve(self) -> None:
        """Serve until the program has ended and all it wrote is in the log."""
        self._reap()
        while self._exit is None or self._outputs:
            wait_s = None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())
            if self._exit is not None:
                wait_s = 0.0 if wait_s is None else min(wait_s, 0.0)
            events = self._selector.select(wait_s)
            for key, _ in events:
                key.data()
            if self._exit is not None and not events:
                break  # the program has ended; a pipe still held open by what it left behind is not waited for
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._kill_at = None
                self.group.kill()
        self._finish()

    def _reap(self) -> None:
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.init_pid:
                self._exit = exit_code_of(wait_status)
                self._note = _note(wait_status)
            else:
                self._sessions.ended(pid, exit_code_of(wait_status))

    def _finish(self) -> None:
        oom_kills = self.oom_kills()
        assert self._exit is not None
        self.group.kill()
        self._reap()
        self._sessions.end_all()
        self.group.remove()
        if self.record.bridge and self.record.network == "bridge":
            with suppress(OSError):
                detach(self.store.run_dir, self.record.host_link, self.record.bridge)
        self._end_status(self._exit, self._note, oom_kills=oom_kills)
        (self.store.run_folder(self.id) / "control").unlink(missing_ok=True)
        # First the lock, then the news: who hears of the end may start or remove the container at once.
        os.close(self._alive_fd)
        self._log.close()  # which wakes those who follow it
        for client in self._waiting:
            with suppress(protocol.Closed, OSError):
                protocol.send(client, {"exit_code": self._exit})
        if self.record.auto_remove:
            self._remove()

    def _remove(self) -> None:
        with suppress(NotFound), self.store.locked(self.id):
            record = self.store.record(self.id)
            self.store.remove(record)
            if record.address and record.bridge:
                Addresses(self.store.state_dir, record.bridge).release(record.address)

    def _end_status(self, exit_code: int, note: str, *, ran: bool = True, oom_kills: int | None = None) -> None:
        if oom_kills:
            note = f"{note}; {oom_kills} killed for want of memory" if note else "killed for want of memory"
        state = GuestState.STOPPED if ran or self.store.status(self.id).started_s else GuestState.CREATED
        self.store.write_status(
            self.id,
            Status(
                state=state.value,
                boot_id=procfs.boot_id(),
                started_s=self.status.started_s,
                finished_s=time.time(),
                exit_code=exit_code,
                oom_kills=oom_kills,
                note=note,
            ),
        )

    def oom_kills(self) -> int | None:
        """Return how many processes of this run the OOM killer took."""
        reader = self.group.reader()
        try:
            return reader.read(time.monotonic()).oom_kills
        except InnkeeperError:
            return None
        finally:
            reader.close()

    # ------------------------------------------------------------------ output and input

    def _watch_output(self, stream: str, fd: int) -> None:
        os.set_blocking(fd, False)
        self._outputs += 1
        self._selector.register(fd, selectors.EVENT_READ, lambda: self._copy(stream, fd))

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
        self._selector.unregister(fd)
        self._outputs -= 1
        if fd != self._terminal_fd:
            os.close(fd)

    # ------------------------------------------------------------------ requests

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return
        if not protocol.peer_is_trusted(client):
            client.close()
            return
        client.setblocking(False)
        self._selector.register(client, selectors.EVENT_READ, lambda: self._serve_client(client))

    def _serve_client(self, client: socket.socket) -> None:
        try:
            data, fds = protocol.receive_raw(client)
            if data[:1] in (b"D", b"E") and not fds:
                self._take_input(client, data)
                return
            self._answer(client, protocol.decode(data), fds)
        except BlockingIOError:
            return
        except (protocol.Closed, ValueError):
            self._drop(client)
        except InnkeeperError as error:
            self._refuse(client, error)
        except OSError as error:
            self._refuse(client, InnkeeperError(error.strerror or str(error)))

    def _take_input(self, client: socket.socket, data: bytes) -> None:
        if self._input is None:
            return
        if data[:1] == b"E":
            self._input.end()
        else:
            self._input.feed(data[1:], client, lambda: self._serve_client(client))

    def _answer(self, client: socket.socket, message: Mapping[str, Any], fds: list[int]) -> None:
        answers: dict[str, Callable[[], Mapping[str, Any] | None]] = {
            "ping": lambda: {"pid": self.init_pid},
            "kill": lambda: self._signal(int(message["signal"])),
            "stop": lambda: self._stop(client, int(message["signal"]), float(message["timeout_s"])),
            "pause": lambda: self._set_paused(True),
            "resume": lambda: self._set_paused(False),
            "wait": lambda: self._waiting.append(client),
            "attach": lambda: self._attach(),
            "resize": lambda: self._resize(int(message["rows"]), int(message["columns"])),
            "exec": lambda: self._sessions.start(client, message, fds),
        }
        try:
            answer = answers.get(str(message.get("op")), self._unknown)()
        except (KeyError, TypeError) as error:
            raise InnkeeperError(f"malformed request: {error}") from error
        finally:
            for fd in fds:
                os.close(fd)
        if answer is not None:
            protocol.send(client, {"ok": True, **answer})

    def _unknown(self) -> None:
        raise InnkeeperError("unknown request")

    def _refuse(self, client: socket.socket, error: InnkeeperError) -> None:
        with suppress(protocol.Closed, OSError):
            protocol.send(client, {"error": error.message, "hint": error.hint, "exit_code": error.exit_code})

    def _drop(self, client: socket.socket) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(client)
        if client in self._waiting:
            self._waiting.remove(client)
        if self._input is not None:
            self._input.forget(client)
        self._sessions.forget(client)
        client.close()

    def _signal(self, number: int) -> dict[str, Any]:
        if self.group.is_frozen() and number == signal.SIGKILL:
            self.group.kill()
        else:
            with suppress(ProcessLookupError):
                os.kill(self.init_pid, number)
        return {}

    def _stop(self, client: socket.socket, number: int, timeout_s: float) -> None:
        self._waiting.append(client)
        if self._exit is not None:
            return
        if self.group.is_frozen():
            self.group.thaw()
        self._kill_at = time.monotonic() + timeout_s
        self._write_state(GuestState.STOPPING)
        with suppress(ProcessLookupError):
            os.kill(self.init_pid, number)

    def _set_paused(self, paused: bool) -> dict[str, Any]:
        self.group.freeze() if paused else self.group.thaw()
        self._write_state(GuestState.PAUSED if paused else GuestState.RUNNING)
        return {}

    def _write_state(self, state: GuestState) -> None:
        self.status = replace(self.status, state=state.value)
        self.store.write_status(self.id, self.status)

    def _attach(self) -> dict[str, Any]:
        if self._input is None:
            raise InnkeeperError("its standard input is not open", hint="run it with -i")
        return {"terminal": self._input.is_terminal}

    def _resize(self, rows: int, columns: int) -> dict[str, Any]:
        if self._terminal_fd is not None:
            linux.set_window_size(self._terminal_fd, rows, columns)
        return {}


def _note(wait_status: int) -> str:
    if os.WIFSIGNALED(wait_status):
        return f"killed by {signal.Signals(os.WTERMSIG(wait_status)).name}"
    return ""
