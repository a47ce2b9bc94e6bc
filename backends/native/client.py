"""The client's side: reach the spawner (starting it on first use) and a container's supervisor."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from backends.errors import InnkeeperError, StartFailed, TimedOut, WrongState
from backends.kernel import linux
from backends.native import protocol
from backends.native.code import ROOT
from backends.native.store import ContainerStore
from backends.trace import StepRecord

_SPAWNER_START_S = 15.0
_ANSWER_S = 90.0


class SpawnerClient:
    """Asks the spawner of a state folder to start containers."""

    def __init__(self, store: ContainerStore, parent: str) -> None:
        self._store, self._parent = store, parent
        self._log = store.run_dir / "spawner.log"

    def start(self, container_id: str, keep: Callable[[StepRecord], None], fds: Sequence[int] = ()) -> int:
        """Start a container and return its first process's pid. fds: its secrets. Raises StartFailed."""
        steps: list[StepRecord] = []

        def note(record: StepRecord) -> None:
            steps.append(record)
            keep(record)

        for _ in range(3):
            with self._connect() as sock:
                sock.settimeout(_ANSWER_S)
                try:
                    protocol.send(sock, {"op": "start", "id": container_id, "code": ROOT}, fds)
                    answer = self._follow(sock, note)
                except protocol.Closed:
                    if steps:
                        raise StartFailed("its supervisor died", hint=f"start it again, or see {self._log}") from None
                    continue  # the spawner ended between our connecting and asking
                except TimeoutError:
                    raise StartFailed(f"no answer from its supervisor within {_ANSWER_S:.0f} s") from None
            if "stale" not in answer:
                return int(answer["pid"])
            self._wait_until_gone()
        raise StartFailed("the spawner ends before it answers", hint=f"see {self._log}")

    def run(self, spec: Mapping[str, Any]) -> str:
        """Have a container made and started; return its id. Raises StartFailed or what making it raises."""
        for _ in range(3):
            with self._connect() as sock:
                sock.settimeout(_ANSWER_S)
                try:
                    protocol.send(sock, {"op": "run", "spec": spec, "code": ROOT})
                    answer = self._follow(sock, lambda _: None)
                except protocol.Closed:
                    raise StartFailed("its supervisor died", hint=f"see `inn ps -a`, and {self._log}") from None
                except TimeoutError:
                    raise StartFailed(f"no answer from its supervisor within {_ANSWER_S:.0f} s") from None
            if "stale" not in answer:
                return str(answer["id"])
            self._wait_until_gone()
        raise StartFailed("the spawner ends before it answers", hint=f"see {self._log}")

    def _follow(self, sock: socket.socket, keep: Callable[[StepRecord], None]) -> dict[str, Any]:
        while True:
            answer, _ = protocol.receive(sock)
            if "steps" in answer:
                for raw in answer["steps"]:
                    keep(StepRecord(**raw))
            elif "error" in answer:
                raise protocol.error_in(answer)
            else:
                return answer

    def wake(self) -> None:
        """Have the spawner look for containers that are to be started again; it comes up for it. Never raises."""
        try:
            with protocol.connect(self._store.run_dir / "spawner", 1.0) as sock:
                protocol.send(sock, {"op": "look"})
        except (FileNotFoundError, ConnectionRefusedError):
            with suppress(OSError, subprocess.SubprocessError):
                os.close(self._launch())
        except (OSError, protocol.Closed):
            return  # it is busy, or on its way out

    def shutdown(self) -> None:
        """End the spawner if it is up, and wait until it is gone; containers go on."""
        pidfd = -1
        try:
            with protocol.connect(self._store.run_dir / "spawner", 2.0) as sock:
                pidfd = os.pidfd_open(protocol.peer_pid(sock))
                protocol.send(sock, {"op": "shutdown"})
                protocol.receive(sock)
            select.select([pidfd], [], [], 5.0)
        except (OSError, protocol.Closed):
            return  # there is none, or it ended meanwhile
        finally:
            if pidfd >= 0:
                os.close(pidfd)

    def _wait_until_gone(self) -> None:
        deadline = time.monotonic() + 5.0
        while (self._store.run_dir / "spawner").exists() and time.monotonic() < deadline:
            time.sleep(0.005)

    def _connect(self) -> socket.socket:
        path = self._store.run_dir / "spawner"
        try:
            return protocol.connect(path, 5.0)
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        for _ in range(3):
            alive = self._launch()
            try:
                # It closes its end when it listens, and the kernel does when it dies.
                is_late = not select.select([alive], [], [], _SPAWNER_START_S)[0]
            finally:
                os.close(alive)
            with suppress(FileNotFoundError, ConnectionRefusedError):
                return protocol.connect(path, 5.0)
            if is_late:
                break
        what = f"does not come up within {_SPAWNER_START_S:.0f} s" if is_late else "dies when it starts"
        raise StartFailed(f"the spawner {what}", hint=f"see {self._log}")

    def _launch(self) -> int:
        """Start a spawner that is nobody's child; the pipe that is returned ends when it is up or dead."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            self._start_process(writing)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return reading

    def _start_process(self, writing: int) -> None:
        arguments = [str(self._store.state_dir), str(self._store.run_dir), self._parent]
        code = (
            f"import sys; sys.path.insert(0, {ROOT!r}); "
            "from backends.kernel.selfexe import seal; seal(); "
            "from backends.native.spawner import main; main(*sys.argv[1:])"
        )
        with open(self._log, "ab") as log:
            # A shell that goes away at once makes it nobody's child, so that no client must reap it.
            subprocess.run(
                ["/bin/sh", "-c", 'exec setsid "$@" &', "sh", sys.executable, "-c", code, *arguments],
                cwd="/",
                env={"PATH": os.defpath, "LANG": "C.UTF-8", protocol.READY: str(writing)},
                pass_fds=(writing,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                close_fds=True,
                check=True,
            )


class SupervisorClient:
    """Talks to the supervisor of one container."""

    def __init__(self, store: ContainerStore, container_id: str, name: str) -> None:
        self._path = store.run_folder(container_id) / "control"
        self._name = name

    def connect(self) -> socket.socket:
        """Return a connection the caller closes. Raises WrongState if the container is not live."""
        try:
            return protocol.connect(self._path, _ANSWER_S)
        except (FileNotFoundError, ConnectionRefusedError):
            raise WrongState(f"container {self._name} is not running") from None

    def ask(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        """Send one request and return the answer. Raises WrongState, InnkeeperError as the supervisor says."""
        with self.connect() as sock:
            return self.exchange(sock, message, fds)[0]

    def exchange(
        self, sock: socket.socket, message: Mapping[str, Any], fds: Sequence[int] = ()
    ) -> tuple[dict[str, Any], list[int]]:
        """Send a request over an open connection and return the answer with its descriptors."""
        try:
            protocol.send(sock, message, fds)
            answer, received = protocol.receive(sock)
        except protocol.Closed:
            raise WrongState(f"container {self._name} is not running") from None
        except TimeoutError:
            raise TimedOut(f"the supervisor of {self._name} does not answer") from None
        _raise_if_refused(answer)
        return answer, received

    def wait(self, request: Mapping[str, Any], timeout_s: float | None) -> int:
        """Send "wait" or "stop" and return the exit code once it has ended. Raises TimedOut, WrongState."""
        with self.connect() as sock:
            try:
                protocol.send(sock, request)
                sock.settimeout(timeout_s)
                answer, _ = protocol.receive(sock)
            except TimeoutError:
                raise TimedOut(f"container {self._name} did not end within {timeout_s:g} s") from None
            except protocol.Closed:
                raise WrongState(f"container {self._name} has ended, and its supervisor with it") from None
        _raise_if_refused(answer)
        return int(answer["exit_code"])


def _raise_if_refused(answer: Mapping[str, Any]) -> None:
    if "error" in answer:
        code = answer.get("exit_code", 1)
        error = protocol.error_in(answer, StartFailed if code in (125, 126, 127) else InnkeeperError)
        error.exit_code = code
        raise error


class NativeExecSession:
    """A program that runs in a container; its end comes over the connection it was asked for."""

    def __init__(self, sock: socket.socket, pid: int, terminal_fd: int | None) -> None:
        self._sock, self.pid, self.terminal_fd = sock, pid, terminal_fd
        self._exit_code: int | None = None

    def resize(self, rows: int, columns: int) -> None:
        """Tell the program's terminal its size."""
        if self.terminal_fd is not None:
            linux.set_window_size(self.terminal_fd, rows, columns)

    def wait(self) -> int:
        """Block until it ends and return its exit code; 137 if its container ended first."""
        if self._exit_code is None:
            self._sock.settimeout(None)
            try:
                self._exit_code = int(protocol.receive(self._sock)[0]["exit_code"])
            except protocol.Closed:
                self._exit_code = 128 + signal.SIGKILL
            self._sock.close()
        return self._exit_code

    def detach(self) -> None:
        """Let the program go on when the session is closed; the supervisor keeps its terminal."""
        with suppress(protocol.Closed, OSError):
            protocol.send(self._sock, {"op": "detach"}, [] if self.terminal_fd is None else [self.terminal_fd])

    def close(self) -> None:
        """Let go; a program that still runs is sent SIGHUP by the supervisor."""
        self._sock.close()
        if self.terminal_fd is not None:
            os.close(self.terminal_fd)
            self.terminal_fd = None


class NativeAttachSession:
    """The way to a container's standard input."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.settimeout(None)

    def write(self, data: bytes) -> None:
        """Send bytes; blocks while the program does not read. Raises WrongState when it has ended."""
        for start in range(0, len(data), 32768):
            self._send(b"D" + data[start : start + 32768])

    def close_stdin(self) -> None:
        """Give it end-of-file."""
        self._send(b"E")

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal the size."""
        protocol.send(self._sock, {"op": "resize", "rows": rows, "columns": columns})

    def close(self) -> None:
        """Detach."""
        self._sock.close()

    def _send(self, data: bytes) -> None:
        try:
            self._sock.send(data)
        except OSError as error:
            raise WrongState("the container has ended") from error
