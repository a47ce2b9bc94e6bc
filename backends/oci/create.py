"""Creating a container: the runtime's side. The stage and init are in stage.py and init.py.

::

    created = create(request, recorder)      # init waits at its gate
    started(created)                         # SocketGate: says "start" and waits for execve
    gate.start_by_fifo(path, created.pidfd)  # FifoGate, from any process
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from backends.errors import InnkeeperError, StartFailed, os_error_text
from backends.kernel.account import Account
from backends.kernel.cgroup_entrance import Entrance
from backends.oci import ending, hooks, init, messages, process, rootfs, stage, steps
from backends.oci.request import Created, CreateRequest, check_descriptors
from backends.oci.rootfs import Scene
from backends.oci.stage import Namespaces
from backends.trace import Recorder, Step, StepRecord

__all__ = ["CreateRequest", "Created", "create", "started"]

_LAST_WORD_S = 1.0


def create(request: CreateRequest, recorder: Recorder) -> Created:
    """Create the container. Raises StartFailed or another InnkeeperError after undoing everything it did."""
    creation = _Creation(request, recorder)
    try:
        return creation.run()
    except BaseException as error:
        creation.undo()
        if isinstance(error, TimeoutError):
            raise StartFailed(f"it did not come up within {request.timeout_s:.0f} s") from error
        if isinstance(error, OSError):
            raise StartFailed(f"{creation.at_work}{os_error_text(error)}") from error
        if isinstance(error, messages.Closed):
            raise creation.death() from None
        raise


def started(created: Created, recorder: Recorder | None = None, *, is_open: bool = False) -> None:
    """Open a SocketGate (unless it is open) and wait for execve. Raises StartFailed; undo() is then the caller's."""
    sync = created.sync
    assert sync is not None
    with sync:
        try:
            if not is_open:
                messages.send(sync, {"start": True})
            while True:
                message, _ = messages.receive(sync)
                _raise_failure(message)
        except messages.Closed:
            return
        except TimeoutError as error:
            raise StartFailed("its program did not start in time") from error
        except OSError as error:
            raise StartFailed(os_error_text(error)) from error
        finally:
            created.sync = None


class _Creation:
    """What a creation has made so far, so that a failure can take it back."""

    def __init__(self, request: CreateRequest, recorder: Recorder) -> None:
        self._request, self._recorder = request, recorder
        self._namespaces = Namespaces.of(request.config)
        self._done: list[Step] = []
        self._fds: list[int] = []
        """Of ours, closed when it is over either way."""

        self._sync: socket.socket | None = None
        self._stage_pid = 0
        self._group_was_there = True
        self._created = Created(0, -1)
        self._failed_step = ""
        self._oom_kills = 0

    @property
    def at_work(self) -> str:
        """The beginning of an error text: what was being done."""
        return f"cannot {self._failed_step}: " if self._failed_step else ""

    def run(self) -> Created:
        request = self._request
        check_descriptors(request.first_fd - 3)
        self._check_group()
        scene = steps.scene_of(request, self._namespaces)
        # Compiles the system call filter, which is then found ready in the child, and tells what cannot be.
        process.privilege_steps(request.config, request.config["process"], Account(0, 0, (), "/"))
        namespace_fds = self._namespaces.open()
        self._fds += namespace_fds.values()
        self._run(rootfs.runtime_steps(scene))
        mount_fds = rootfs.host_mount_fds(scene)
        self._fds += mount_fds.values()
        request.gate.open()
        sync, theirs = messages.pair()
        self._sync = sync
        with theirs:
            sync.settimeout(request.timeout_s)
            self._fork(scene, namespace_fds, mount_fds, theirs)
        self._close_fds()
        self._run(steps.group_steps(request))
        self._hear(lambda message: "pid" in message)
        self._join()
        with suppress(messages.Closed):  # then it has said why, which is heard next
            messages.send(sync, {"go": True, "state": self._state_for_init()})
        self._hear(lambda message: "created" in message)
        self._created.sync, self._created.undo = sync, self.undo
        return self._created

    def _check_group(self) -> None:
        group = self._request.group
        self._group_was_there = group is None or group.exists()
        if group is None or not self._group_was_there:
            return
        if group.is_populated():
            raise StartFailed(f"container's cgroup is not empty: {len(group.procs())} process(es) found")
        if group.is_frozen():
            raise StartFailed("container's cgroup unexpectedly frozen")

    def _fork(
        self, scene: Scene, namespace_fds: dict[str, int], mount_fds: dict[int, int], theirs: socket.socket
    ) -> None:
        request = self._request
        assert self._sync is not None
        offsets = bool((request.config.get("linux") or {}).get("timeOffsets"))
        pid = os.fork()
        if pid == 0:
            try:
                self._sync.close()
                for fd in request.own_fds:
                    os.close(fd)
                stage.run(
                    self._namespaces,
                    namespace_fds,
                    offsets,
                    theirs,
                    lambda entrance: init.run(request, self._namespaces, scene, mount_fds, theirs, entrance),
                    group=request.group.path if request.group is not None else None,
                    is_traced=request.is_traced,
                )
            finally:
                os._exit(0)
        self._stage_pid = pid

    def _join(self) -> None:
        """Init exists: give it its network, and let the hooks see it."""
        request, pid = self._request, self._created.pid
        self._run(steps.joined_steps(request, pid))
        with request.holding():
            self._run(request.host_steps(pid))
        for kind in ("prestart", "createRuntime"):
            if (request.config.get("hooks") or {}).get(kind):
                # The deprecated kind is told what it always was, and what runtime-tools checks.
                status = "created" if kind == "prestart" else "creating"
                hooks.run(request.config, kind, request.state(status, pid), folder=request.bundle)

    def _state_for_init(self) -> Mapping[str, Any] | None:
        hooks_of = self._request.config.get("hooks") or {}
        if not (hooks_of.get("createContainer") or hooks_of.get("startContainer")):
            return None
        return self._request.state("creating", self._created.pid)

    def _run(self, wanted: Sequence[Step]) -> None:
        for step in wanted:
            self._failed_step = ""
            try:
                self._recorder.run(step)
            except OSError:
                self._failed_step = step.describe()
                raise
            self._done.append(step)

    # ------------------------------------------------------------------ messages

    def _hear(self, is_awaited: Callable[[dict[str, Any]], bool]) -> None:
        """Take messages of the stage and init until the awaited one."""
        assert self._sync is not None
        while True:
            message, fds = messages.receive(self._sync)
            self._take(message, fds)
            if is_awaited(message):
                return

    def _take(self, message: dict[str, Any], fds: list[int]) -> None:
        if "steps" in message:
            for raw in message["steps"]:
                record = StepRecord(**raw)
                self._failed_step = record.text if record.error else ""
                self._recorder.keep(record)
        elif "need" in message:
            self._serve(message["need"])
        elif "pid" in message:
            self._created.pid = int(message["pid"])
            self._created.pidfd = os.pidfd_open(self._created.pid)
            with suppress(ChildProcessError):
                os.waitpid(self._stage_pid, 0)
            self._stage_pid = 0
        elif "terminal" in message:
            self._created.terminal_fd = fds[0]
        elif "seccomp" in message:
            self._send_listener(fds[0])
        _raise_failure(message)

    def _serve(self, need: str) -> None:
        assert self._sync is not None
        if need == "group":
            self._send_entrance()
            return
        part = self._request.config["linux"]
        if need == "maps":
            from backends.kernel.userns import MapUsers

            maps = part.get("uidMappings") or (), part.get("gidMappings") or ()
            self._run([MapUsers(self._stage_pid, *maps)])
        else:
            from backends.kernel.timens import SetOffsets

            self._run([SetOffsets(self._stage_pid, part["timeOffsets"])])
        messages.send(self._sync, {"ok": True})

    def _send_entrance(self) -> None:
        """The group is made by now: the stage gets the files by which init enters it."""
        assert self._sync is not None
        assert self._request.group is not None
        entrance = Entrance(self._request.group)
        try:
            fds = [fd for fd in entrance.fds if fd >= 0]
            messages.send(self._sync, {"has_v2": entrance.has_v2}, fds)
        finally:
            entrance.close()

    def _send_listener(self, fd: int) -> None:
        from backends.oci import notify

        try:
            state = self._request.state("creating", self._created.pid)
            notify.send(self._request.config["linux"]["seccomp"], state, self._created.pid, fd)
        finally:
            os.close(fd)

    # ------------------------------------------------------------------ the end

    def death(self) -> StartFailed:
        """Their end of the socket closed before they could say why."""
        if self._oom_kills:
            return StartFailed("its memory limit is too low to start it", hint="give it more: --memory")
        return StartFailed(f"{self.at_work}its init died before it ran the program")

    def undo(self) -> None:
        """Take back what was done, last first; what the kernel refuses is left, so that all the rest goes."""
        created, group = self._created, self._request.group
        self._oom_kills = (group.oom_kills() or 0) if group is not None and group.exists() else 0
        if self._sync is not None:
            self._learn_of_init(self._sync)
            self._sync.close()
        if self._stage_pid:
            with suppress(ProcessLookupError):
                os.kill(self._stage_pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(self._stage_pid, 0)
        if created.pidfd >= 0:
            ending.end(created.pid, created.pidfd)
        if created.terminal_fd is not None:
            os.close(created.terminal_fd)
        self._close_fds()
        for step in reversed(self._done):
            with suppress(OSError, InnkeeperError):
                step.undo()
        if group is not None and not self._group_was_there:
            ending.remove(group)
        self._done, self._created = [], Created(0, -1)

    def _learn_of_init(self, sync: socket.socket) -> None:
        """Init may have failed before the stage told of it."""
        if self._stage_pid:
            sync.settimeout(_LAST_WORD_S)
            with suppress(messages.Closed, OSError, ValueError):
                while not self._created.pid:
                    message, fds = messages.receive(sync)
                    for fd in fds:
                        os.close(fd)
                    if "pid" in message:
                        self._take(message, [])

    def _close_fds(self) -> None:
        self._request.gate.close()
        for fd in self._fds:
            with suppress(OSError):
                os.close(fd)
        self._fds = []


def _raise_failure(message: dict[str, Any]) -> None:
    if "failed" in message:
        hint = message.get("hint", "")
        raise StartFailed(message["failed"], exit_code=message["exit_code"], hint=hint)
