"""One process a container: it makes the container, keeps its log, answers on its socket, and records its end.

When the program has ended it makes the container anew, if the restart policy says so.
Single-threaded, forked from the spawner. It is a subreaper: init and exec sessions are its children even
though they were forked one level down. It outlives every client, the screen and the spawner.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import selectors
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from backends.errors import InnkeeperError, NotFound, StartFailed, os_error_text
from backends.kernel import linux
from backends.kernel.cgroup import Cgroup, CgroupHost
from backends.model import GuestState
from backends.native import protocol
from backends.native.freezing import Freezer
from backends.native.health import Health
from backends.native.journal import Journal
from backends.native.killing import OomTeller
from backends.native.launch import Launch, exit_code_of
from backends.native.log import LogWriter
from backends.native.maker import Maker
from backends.native.network import let_go, tidy_bridge
from backends.native.networks.joining import leave
from backends.native.networks.store import NetworkStore
from backends.native.outputs import Outputs
from backends.native.record import ContainerRecord
from backends.native.relay.keeper import Relay
from backends.native.requests import Requests
from backends.native.restart import Restarts
from backends.native.secrets import SecretKeeper
from backends.native.session import ExecSessions
from backends.native.standing import Standing, note_of
from backends.native.stdin import InputPump
from backends.native.store import LOG, ContainerStore
from backends.native.sweep import end_kernel_side, oom_kills_of

_FOREVER_S = 86_400.0
_LOCK_S = 10.0
_LAST_OUTPUT_S = 1.0
_KILL_AGAIN_S = 0.5


class Supervisor:
    """The life of one container, from a start by its user to its last end."""

    def __init__(self, store: ContainerStore, container_id: str, host: CgroupHost, secrets_fd: int = -1) -> None:
        self.store, self.id, self.host = store, container_id, host
        self._spawner_pid = os.getppid()
        # First: from here on nobody removes it. Who cleans up after an earlier run holds it for a moment.
        self.alive_fd = store.hold_life_lock(container_id, timeout_s=_LOCK_S)
        self.record = store.record(container_id)
        self._group: Cgroup | None = None
        self.init_pid = 0
        self.init_pidfd = -1
        self.standing = Standing(self)
        self.selector = selectors.DefaultSelector()
        self.input: InputPump | None = None
        self.terminal_fd: int | None = None
        self.sessions = ExecSessions(self)
        self.outputs = Outputs(self)
        self.requests = Requests(self)
        self.freezer = Freezer(self)
        self.restarts = Restarts(self)
        self.health = Health(self)
        self.oom = OomTeller(self)
        self.relay = Relay(self)
        self.journal = Journal(store.state_dir)
        self.secrets = SecretKeeper(secrets_fd)
        self.log: LogWriter | None = None
        self.exit_code: int | None = None
        """Of the last run; None while the program runs."""

        self.kill_at_s: float | None = None
        """When all of it is killed, on time.monotonic's clock; None: not."""

        self._note = ""

    @property
    def config(self) -> Mapping[str, Any]:
        """Its config.json, read anew: it is long, and hardly ever looked at while the container runs."""
        return self.store.config(self.id)

    @property
    def group(self) -> Cgroup:
        """Its control group."""
        if self._group is None:
            self._group = self.host.group(self.config["linux"]["cgroupsPath"])
        return self._group

    def be_in(self, path: str) -> None:
        """Take its control group as known, which saves reading config.json."""
        self._group = self.host.group(path)

    # ------------------------------------------------------------------ start

    def start(self, client: socket.socket, maker: Maker | None = None, *, follow: bool = False) -> None:
        """Make the container and answer the client, with `follow` once more at its end.

        Raises StartFailed after undoing everything.
        """
        self._settle_in()
        teller = _Teller(client)
        try:
            self._begin(client, maker)
        except StartFailed as error:
            with suppress(OSError, InnkeeperError):
                self.standing.ended(error.exit_code, f"did not start: {error.message}", did_run=False)
                (self.store.run_folder(self.id) / "control").unlink(missing_ok=True)
            self.store.release_life_lock(self.id, self.alive_fd)
            raise
        kept = [self.log.hold()] if follow and self.log is not None else []
        teller.tell({"ok": True, "pid": self.init_pid, "id": self.id}, kept)
        for fd in kept:
            os.close(fd)
        if follow:
            self.requests.follow(client)
        else:
            teller.close()

    def take_up(self) -> bool:
        """Be the supervisor of a container whose last one died, and start it as its restart policy says.

        False if it is to stay ended.
        """
        self._settle_in()
        before = self.store.status(self.id)
        self.restarts.take_up(before.restarts)
        self.exit_code, self._note = before.exit_code or 255, before.note
        self._listen()
        if self.restarts.again(0.0):
            return True
        self._finish()
        return False

    def begin_again(self) -> None:
        """Make the container anew, from what is on record now. Raises NotFound, StartFailed."""
        self.record = self.store.record(self.id)
        try:
            self._begin(None)
        except StartFailed as error:
            self.exit_code, self._note = error.exit_code, f"did not start: {error.message}"
            raise

    def _settle_in(self) -> None:
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        linux.set_process_name(f"inn:{self.record.name}")
        self._catch_signals()

    def _begin(self, client: socket.socket | None, maker: Maker | None = None) -> None:
        launch = Launch(self, client, maker)
        try:
            launch.begin()
            self._listen()  # while the maker is at work
            launch.run()
            self._take_over(launch)
        except StartFailed:
            self._undo(launch)
            raise
        except InnkeeperError as error:
            self._undo(launch)
            raise StartFailed(error.message, hint=error.hint) from error
        except OSError as error:
            self._undo(launch)
            raise StartFailed(f"cannot keep it: {os_error_text(error)}") from error

    def _undo(self, launch: Launch) -> None:
        self.relay.end()
        launch.undo()
        self._let_go_of_program()

    def _take_over(self, launch: Launch) -> None:
        """The program runs: listen to it and to clients, and put on record that it lives."""
        self.init_pid, self.init_pidfd = launch.init_pid, launch.init_pidfd
        self.terminal_fd = launch.terminal_fd
        source = launch.terminal_fd if launch.terminal_fd is not None else launch.stdin_fd
        if source is not None:
            self.input = InputPump(self.selector, source, is_terminal=launch.terminal_fd is not None)
        for stream, fd in launch.outputs:
            self.outputs.watch(stream, fd)
        self.relay.begin()
        self.exit_code, self._note = None, ""
        health = self.health.begin()
        self._began_s = time.monotonic()
        self.standing.runs(health=health)
        self.tell("start", restarts=self.restarts.count or None)

    def _listen(self) -> None:
        """Open the log and the socket, unless an earlier run did."""
        if self.log is None:
            self.log = LogWriter(self.store.folder(self.id) / LOG, self.record.log_limits)
            self.requests.listen(self.store.run_folder(self.id) / "control")

    def tell(self, action: str, **attributes: object) -> None:
        """Put in the journal what happened to the container."""
        self.journal.write(self.id, self.record.name, action, **attributes)

    def _catch_signals(self) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # The C functions: those of Python turn all into enums, 0.2 MiB of memory that is then ours alone.
        _signal.signal(_signal.SIGCHLD, lambda *_: None)
        _signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2):
            _signal.signal(number, _signal.SIG_IGN)
        self.selector.register(reading, selectors.EVENT_READ, lambda: self._drain(reading))

    def _drain(self, fd: int) -> None:
        with suppress(BlockingIOError):
            os.read(fd, 512)
        self._reap()

    # ------------------------------------------------------------------ loop

    def serve(self) -> None:
        """Serve until the program has ended for good and all it wrote is in the log."""
        self._serve_run()
        while self.restarts.again(time.monotonic() - self._began_s):
            self._serve_run()
        self._finish()

    def _serve_run(self) -> None:
        self.oom.begin()
        self._reap()
        last_s: float | None = None
        while self.exit_code is None or self.outputs:
            self.outputs.look(time.monotonic())
            is_quiet = not self.turn(_FOREVER_S if self.exit_code is None else 0.0)
            if self.exit_code is not None:
                # What it left behind may hold its pipes open, and may even write on: that is not waited for.
                last_s = last_s or time.monotonic() + _LAST_OUTPUT_S
                if is_quiet or time.monotonic() > last_s:
                    break
        self._end_run()

    def turn(self, patience_s: float) -> bool:
        """Wait for news, at most so long, and do what they ask for; says whether there were any."""
        events = self.selector.select(self._patience_s(patience_s))
        for key, _ in events:
            key.data()
        self._do_what_is_due(time.monotonic())
        return bool(events)

    def _patience_s(self, most_s: float) -> float:
        own = self.kill_at_s, self.health.due_s, self.outputs.due_s, self.freezer.due_s
        dues = (*own, self.sessions.next_deadline())
        due = [at for at in dues if at is not None]
        return min(most_s, max(0.0, min(due) - time.monotonic())) if due else most_s

    def _do_what_is_due(self, now_s: float) -> None:
        self.sessions.give_up_on_late(now_s)
        if self.exit_code is None:
            self.health.look(now_s)
            self.freezer.look(now_s)
        if self.kill_at_s is not None and now_s >= self.kill_at_s:
            # Once more then: a task that waits in the kernel dies when it comes out.
            self.kill_at_s = now_s + _KILL_AGAIN_S if self.exit_code is None else None
            if self.init_pidfd >= 0:
                with suppress(ProcessLookupError):  # by descriptor: it may have ended, and been reaped
                    signal.pidfd_send_signal(self.init_pidfd, signal.SIGKILL)  # all there is where it has no group
            with suppress(InnkeeperError, OSError):
                self.group.kill_once()

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
                self._note = self.restarts.note or note_of(wait_status)
            elif not self.relay.reaped(pid):
                self.sessions.ended(pid, exit_code_of(wait_status))

    def _end_run(self) -> None:
        """The program has ended: end what it left behind, and record how it was."""
        assert self.exit_code is not None
        with suppress(InnkeeperError):
            self.record = self.store.record(self.id)  # it may be on other networks by now
        self.health.end()
        self.freezer.end()
        self.relay.end()
        oom_kills = oom_kills_of(self.group)
        try:
            # One that is removed at its end is not started again: who waits for it need not wait for its link.
            end_kernel_side(self.store, self.group, self.record, keeps_link=self.record.auto_remove, wait=self.turn)
        except InnkeeperError as error:
            self._note = f"{self._note}; {error.message}".removeprefix("; ")
        self._reap()
        self.sessions.end_all()
        self._let_go_of_program()
        self.kill_at_s = None
        if oom_kills:
            text = f"{oom_kills} killed for want of memory" if self._note else "killed for want of memory"
            self._note = f"{self._note}; {text}".removeprefix("; ")
        self.oom.end(oom_kills)
        self.standing.lost(oom_kills)
        self.tell("die", exit_code=self.exit_code, note=self._note)

    def is_restarting(self, pause_s: float) -> None:
        """Put on record that it is started again after a pause, and tell those who wait for an end."""
        assert self.exit_code is not None
        with suppress(OSError, InnkeeperError):  # a full or damaged disk
            self.standing.ended(self.exit_code, self._note, GuestState.RESTARTING)
        self.requests.tell_of_end(self.exit_code)

    def _finish(self) -> None:
        assert self.exit_code is not None
        with suppress(OSError, InnkeeperError):  # a full or damaged disk; the exit code is still told
            self.standing.ended(self.exit_code, self._note)
        with suppress(OSError):
            (self.store.run_folder(self.id) / "control").unlink(missing_ok=True)
        if os.getppid() != self._spawner_pid:
            for bridge in {each.bridge for each in self.record.endpoints}:
                with suppress(OSError, InnkeeperError):
                    tidy_bridge(self.store.run_dir, bridge)  # the spawner, which keeps it, has gone
        # First the lock, then the news: who hears of the end may start or remove the container at once.
        self.store.release_life_lock(self.id, self.alive_fd)
        if self.log is not None:
            self.log.close()  # which wakes those who follow it
        self.requests.tell_of_end(self.exit_code)
        if self.record.auto_remove:
            self.requests.see_off()
            self.remove()
            let_go(self.store.run_dir, self.record.endpoints)

    def remove(self) -> None:
        """Remove the container, which has ended."""
        self.store.wait_until_free(self.id)
        with suppress(NotFound, OSError), self.store.making(), self.store.locked(self.id):
            record = self.store.record(self.id)
            self.store.remove(record, lambda: self._tell_of_removal(record))

    def _tell_of_removal(self, record: ContainerRecord) -> None:
        self.tell("remove")
        leave(NetworkStore(self.store.state_dir, ""), record.endpoints)
        self.requests.let_followers_go()

    def _let_go_of_program(self) -> None:
        """Close our ends of what an ended program had."""
        self.outputs.close()
        if self.input is not None:
            self.input.close()
            self.input = None
        for open_fd in (self.terminal_fd, self.init_pidfd if self.init_pidfd >= 0 else None):
            if open_fd is not None:
                os.close(open_fd)
        self.terminal_fd, self.init_pid, self.init_pidfd = None, 0, -1


class _Teller:
    """Tells the client that asked for the start how it goes; one that does not listen is left alone."""

    def __init__(self, client: socket.socket | None) -> None:
        self._client = client

    def tell(self, message: dict[str, object], fds: Sequence[int] = ()) -> None:
        if self._client is None:
            return
        try:
            protocol.send(self._client, message, fds)
        except (protocol.Closed, OSError):
            self.close()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
