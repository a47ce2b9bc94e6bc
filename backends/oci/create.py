"""Creating a container: the runtime's side. The stage and init are in stage.py and init.py.

::

    created = create(request, recorder)      # init waits at its gate
    started(created)                         # SocketGate: says "start" and waits for execve
    gate.start_by_fifo(path, created.pidfd)  # FifoGate, from any process
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from backends.errors import StartFailed, os_error_text
from backends.kernel import cloning
from backends.kernel.account import Account
from backends.kernel.cgroup_entrance import Entrance
from backends.oci import birth, ending, hooks, init, messages, process, rootfs, stage, steps
from backends.oci.birth import BearInit
from backends.oci.conversation import Conversation
from backends.oci.request import Created, CreateRequest, check_descriptors
from backends.oci.stage import Namespaces
from backends.oci.work import Work
from backends.trace import Recorder, Step

__all__ = ["CreateRequest", "Created", "create", "started"]


def create(request: CreateRequest, recorder: Recorder) -> Created:
    """Create the container. Raises StartFailed or another InnkeeperError after undoing everything it did."""
    return carry_out(Creation(request, recorder))


def carry_out(creation: Creation) -> Created:
    """Run a creation; undo it if that fails."""
    try:
        return creation.run()
    except BaseException as error:
        creation.undo()
        if isinstance(error, TimeoutError):
            raise StartFailed(f"it did not come up within {creation.timeout_s or 0:.0f} s") from error
        if isinstance(error, OSError):
            raise StartFailed(f"{creation.work.at_work}{os_error_text(error)}") from error
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
                messages.raise_failure(message)
        except messages.Closed:
            return
        except TimeoutError as error:
            raise StartFailed("its program did not start in time") from error
        except OSError as error:
            raise StartFailed(os_error_text(error)) from error
        finally:
            created.sync = None


class Creation:
    """What a creation has made so far, so that a failure can take it back."""

    def __init__(self, request: CreateRequest, recorder: Recorder) -> None:
        self._request = request
        self._namespaces = Namespaces.of(request.config)
        self.work = Work(recorder)
        self._created = Created(0, -1)
        self._talk: Conversation | None = None
        self._fds: list[int] = []
        """Of ours, closed when it is over either way."""

        self._group_was_there = True
        self._has_group = self._was_refused = False
        self._oom_kills = 0

    @property
    def timeout_s(self) -> float | None:
        """How long the stage and init may take to answer."""
        return self._request.timeout_s

    def run(self) -> Created:
        """Do it all. Raises whatever stands in the way; undo() is then the caller's."""
        request, created = self._request, self._created
        check_descriptors(request.first_fd - 3)
        self._check_group()
        # Compiles the system call filter, which is then found ready in the child, and tells what cannot be.
        process.privilege_steps(request.config, request.config["process"], Account(0, 0, (), "/"))
        talk = self._begin()
        if not created.pid:
            self._make_group()
            talk.hear_of("pid")
        self._join()
        talk.go(self._state_for_init())
        talk.hear_of("created")
        created.sync, created.undo = talk.sync, self.undo
        return created

    def _check_group(self) -> None:
        group = self._request.group
        self._group_was_there = group is None or group.exists()
        if group is None or not self._group_was_there:
            return
        if group.is_populated():
            raise StartFailed(f"container's cgroup is not empty: {len(group.procs())} process(es) found")
        if group.is_frozen():
            raise StartFailed("container's cgroup unexpectedly frozen")

    def _begin(self) -> Conversation:
        """Make init, or the stage that makes it."""
        request, scene = self._request, steps.scene_of(self._request, self._namespaces)
        namespace_fds = self._namespaces.open()
        self._fds += namespace_fds.values()
        self.work.run(rootfs.runtime_steps(scene))
        mount_fds = rootfs.host_mount_fds(scene)
        self._fds += mount_fds.values()
        request.gate.open()
        sync, theirs = messages.pair()
        sync.settimeout(request.timeout_s)
        talk = self._talk = Conversation(sync, request, self._created, self.work)

        def become(entrance: Entrance | None) -> None:
            init.run(request, self._namespaces, scene, mount_fds, theirs, entrance)

        with theirs:
            if not self._bear(become):
                talk.stage_pid = self._fork(namespace_fds, theirs, become)
        self._close_fds()
        return talk

    def _bear(self, become: stage.Become) -> bool:
        """Make init without a stage; False if that cannot be."""
        request, namespaces = self._request, self._namespaces
        if not birth.is_possible(namespaces):
            return False
        self._make_group()
        entrance = Entrance(request.group) if request.group is not None else None

        def be_born() -> None:
            self._leave_runtime()
            stage.hide()
            become(entrance)

        try:
            pid = int(self.work.result(BearInit(namespaces.new_types(), entrance, be_born)))
        except OSError as error:
            self._was_refused = error.errno in cloning.UNAVAILABLE
            if self._was_refused:
                return False
            raise
        finally:
            if entrance is not None:
                entrance.close()
        self._created.pid, self._created.pidfd = pid, os.pidfd_open(pid)
        return True

    def _fork(self, namespace_fds: Mapping[str, int], theirs: socket.socket, become: stage.Become) -> int:
        request = self._request
        pid = os.fork()
        if pid == 0:
            try:
                self._leave_runtime()
                stage.run(
                    self._namespaces,
                    namespace_fds,
                    theirs,
                    become,
                    has_offsets=bool((request.config.get("linux") or {}).get("timeOffsets")),
                    group=request.group.path if request.group is not None else None,
                    may_be_born=not self._was_refused,
                    is_traced=request.is_traced,
                )
            finally:
                os._exit(0)
        return pid

    def _make_group(self) -> None:
        if not self._has_group:
            self._has_group = True
            self.work.run(steps.group_steps(self._request))

    def _leave_runtime(self) -> None:
        """In a fork of ours: close what is not for it."""
        assert self._talk is not None
        self._talk.sync.close()
        for fd in self._request.own_fds:
            os.close(fd)

    def _join(self) -> None:
        """Init exists: give it its network, and let the hooks see it."""
        request, pid = self._request, self._created.pid
        self.work.run(steps.joined_steps(request, pid))
        with request.holding():
            self.work.run(self._host_steps(pid))
        for kind in ("prestart", "createRuntime"):
            if (request.config.get("hooks") or {}).get(kind):
                # The deprecated kind is told what it always was, and what runtime-tools checks.
                status = "created" if kind == "prestart" else "creating"
                hooks.run(request.config, kind, request.state(status, pid), folder=request.bundle)

    def _host_steps(self, pid: int) -> Sequence[Step]:
        return self._request.host_steps(pid)

    def _state_for_init(self) -> Mapping[str, Any] | None:
        hooks_of = self._request.config.get("hooks") or {}
        if not (hooks_of.get("createContainer") or hooks_of.get("startContainer")):
            return None
        return self._request.state("creating", self._created.pid)

    # ------------------------------------------------------------------ the end

    def death(self) -> StartFailed:
        """Their end of the socket closed before they could say why."""
        if self._oom_kills:
            return StartFailed("its memory limit is too low to start it", hint="give it more: --memory")
        return StartFailed(f"{self.work.at_work}its init died before it ran the program")

    def undo(self) -> None:
        """End it, and take back what was done."""
        created, group = self._created, self._request.group
        self._oom_kills = (group.oom_kills() or 0) if group is not None and group.exists() else 0
        if self._talk is not None:
            self._talk.end()
        if created.pidfd >= 0:
            ending.end(created.pid, created.pidfd)
        if created.terminal_fd is not None:
            os.close(created.terminal_fd)
        self._close_fds()
        self.work.undo()
        if group is not None and not self._group_was_there:
            ending.remove(group)
        self._talk, self._created = None, Created(0, -1)

    def _close_fds(self) -> None:
        self._request.gate.close()
        for fd in self._fds:
            with suppress(OSError):
                os.close(fd)
        self._fds = []
