"""The life of containers: start, stop, freeze, wait, and programs run inside."""

from __future__ import annotations

import signal
from contextlib import suppress

from backends.container import ExecSpec
from backends.errors import (
    StartFailed,
    UsageError,
    WrongState,
)
from backends.model import (
    GuestRef,
    GuestState,
)
from backends.native import secrets, spec
from backends.native.client import NativeAttachSession, NativeExecSession
from backends.native.core import KEPT, NativeCore
from backends.native.restart import USER
from backends.native.snapshots import Snapshots
from backends.native.tracing import recorded
from backends.trace import Recorder

_STOP_TIMEOUT_S = 10.0


class Living(NativeCore):
    """Starts and ends containers and what runs in them."""

    def start(self, ref: GuestRef, recorder: Recorder) -> None:
        """Start a created or stopped container."""
        if self._guest(ref).state == GuestState.RESTARTING and self._start_now(ref):
            return
        with self._store.locked(ref.id):
            guest = self._guest(ref)
            if guest.state in KEPT:
                raise WrongState(f"{guest.name} is {guest.state.value} already")
            self._clean_if_lost(ref)
            Snapshots(self._store.folder(ref.id), guest.name).recover()
            self._wait_for_supervisor(ref)
            try:
                with secrets.handed(self._store.record(ref.id).secret_files) as fds:
                    self._spawner.start(ref.id, recorder.keep, fds)
            except StartFailed as error:
                text = f"cannot start {guest.name}: {error.message}"
                raise StartFailed(text, exit_code=error.exit_code, hint=error.hint) from error

    def _start_now(self, ref: GuestRef) -> bool:
        """Ask the supervisor of one that waits for its next start not to wait; False if it waits no more."""
        guest = self._guest(ref)
        try:
            self._supervisor(ref).ask({"op": "start"})
        except StartFailed as error:
            text = f"cannot start {guest.name}: {error.message}"
            raise StartFailed(text, exit_code=error.exit_code, hint=error.hint) from error
        except WrongState:
            return False
        return True

    def stop(self, ref: GuestRef, recorder: Recorder, *, timeout_s: float | None = None) -> None:
        """Send the stop signal, and SIGKILL to all of it after the timeout; it then stays stopped."""
        self._stop(ref, recorder, timeout_s, USER)

    def _stop(self, ref: GuestRef, recorder: Recorder, timeout_s: float | None, by: str) -> None:
        if self._clean_if_lost(ref, by):
            return
        self._require_live(ref, "stop", KEPT)
        record = self._store.record(ref.id)
        number = getattr(signal, record.stop_signal)
        wait_s = record.stop_timeout_s if timeout_s is None else timeout_s
        wait_s = _STOP_TIMEOUT_S if wait_s is None else wait_s
        request = {"op": "stop", "signal": int(number), "timeout_s": wait_s, "by": by}
        with recorded(recorder, self._trace_path(ref), "signal", f"send {number.name}, SIGKILL after {wait_s:g} s",
                      f"kill -{number.name[3:]} {self._guest(ref).pid}"):  # fmt: skip
            try:
                self._supervisor(ref).wait(request, wait_s + 15.0)
            except WrongState:
                # It ended by itself as we asked; only one that lives on without a supervisor is an error.
                self._wait_for_supervisor(ref)
                if not self._clean_if_lost(ref, by):
                    self._require_ended(ref)

    def _require_ended(self, ref: GuestRef) -> None:
        guest = self._guest(ref)
        if guest.state in KEPT:
            raise WrongState(f"cannot stop {guest.name}: its supervisor does not answer")

    def kill(self, ref: GuestRef, recorder: Recorder, *, signal: int = 9) -> None:
        """Send a signal to the first process."""
        if self._clean_if_lost(ref, USER):
            return
        self._require_live(ref, "send a signal to", KEPT)
        name = _number_name(signal)
        with recorded(recorder, self._trace_path(ref), "signal", f"send {name}",
                      f"kill -{name.removeprefix('SIG')} {self._guest(ref).pid}"):  # fmt: skip
            self._supervisor(ref).ask({"op": "kill", "signal": signal})

    def restart(self, ref: GuestRef, recorder: Recorder, *, timeout_s: float | None = None) -> None:
        """Stop it if it is live, and start it."""
        if self._guest(ref).state in KEPT:
            self.stop(ref, recorder, timeout_s=timeout_s)
        self.start(ref, recorder)
        self._journal.write(ref.id, self._guest(ref).name, "restart")

    def pause(self, ref: GuestRef, recorder: Recorder) -> None:
        """Freeze it."""
        self._require_state(ref, GuestState.RUNNING, "pause")
        with recorded(recorder, self._trace_path(ref), "freeze", f"freeze {self._group(ref.id).path}",
                      f"echo 1 > {self._freeze_file(ref)}"):  # fmt: skip
            self._supervisor(ref).ask({"op": "pause"})

    def resume(self, ref: GuestRef, recorder: Recorder) -> None:
        """Thaw it."""
        self._require_state(ref, GuestState.PAUSED, "resume")
        with recorded(recorder, self._trace_path(ref), "freeze", f"thaw {self._group(ref.id).path}",
                      f"echo 0 > {self._freeze_file(ref)}"):  # fmt: skip
            self._supervisor(ref).ask({"op": "resume"})

    def wait(self, ref: GuestRef, *, timeout_s: float | None = None) -> int | None:
        """Block until it has ended."""
        guest = self._guest(ref)
        if guest.state in KEPT:
            with suppress(WrongState):
                return self._supervisor(ref).wait({"op": "wait"}, timeout_s)
            self._wait_for_supervisor(ref)
        return self._store.status(ref.id).exit_code

    def exec(self, ref: GuestRef, asked: ExecSpec, stdio: tuple[int, int, int] | None = None) -> NativeExecSession:
        """Run a program in a live container."""
        self._require_state(ref, GuestState.RUNNING, "run a program in")
        if not asked.args:
            raise UsageError("there is no program to run")
        spec.check_program(asked.args, asked.env, asked.cwd)
        request = {"op": "exec", "args": list(asked.args), "env": list(asked.env), "cwd": asked.cwd, "user": asked.user,
                   "terminal": asked.terminal, "size": asked.size, "privileged": asked.privileged,
                   "detached": asked.detached}  # fmt: skip
        fds = () if asked.terminal else (stdio or (0, 1, 2))
        client = self._supervisor(ref)
        sock = client.connect()
        try:
            answer, received = client.exchange(sock, request, fds)
        except BaseException:
            sock.close()
            raise
        return NativeExecSession(sock, int(answer["pid"]), received[0] if received else None)

    def attach(self, ref: GuestRef, *, size: tuple[int, int] | None = None) -> NativeAttachSession:
        """Connect to its standard input."""
        self._require_live(ref, "attach to")
        client = self._supervisor(ref)
        sock = client.connect()
        try:
            client.exchange(sock, {"op": "attach"})
        except BaseException:
            sock.close()
            raise
        session = NativeAttachSession(sock)
        if size is not None:
            session.resize(*size)
        return session

    def _freeze_file(self, ref: GuestRef) -> str:
        group = self._group(ref.id)
        return f"{group.unified}/cgroup.freeze" if group.unified else f"{group.directory('freezer')}/freezer.state"


def signal_name(text: str) -> str:
    """Return "SIGTERM" for "SIGTERM", "term" or "15". Raises UsageError."""
    name = text.upper()
    if text.isdigit() and int(text) in signal.valid_signals():
        return _number_name(int(text))
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name not in signal.Signals.__members__:
        raise UsageError(f"{text!r} is no signal")
    return name


def _number_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
