"""Init that stands by: born in its namespaces and its group before anybody knows what it is to become.

Making namespaces and a process in them takes a third of a start. A shell has that behind it and waits for the rest::

    shell = Shell(group, recorder, own_fds); shell.stand_by(rehearse)
    created = shell.become(request)          # or shell.undo()

The steps that it took are in the recorder like any others, at the time when they were done.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from backends.errors import StartFailed
from backends.kernel.account import Account
from backends.kernel.cgroup import Cgroup
from backends.kernel.cgroup_entrance import Entrance
from backends.oci import init, messages, process, rootfs, steps
from backends.oci.conversation import Conversation
from backends.oci.create import Creation, carry_out
from backends.oci.gate import SocketGate
from backends.oci.request import Created, CreateRequest
from backends.oci.stage import Namespaces
from backends.trace import Recorder, Step

KINDS = ("cgroup", "ipc", "mount", "network", "pid", "uts")
"""The namespaces that a shell is in, or can enter by itself; containers that want others are made in the usual way."""

_LARGEST = 200_000
_TIMEOUT_S = 60.0


class Shell(Creation):
    """A creation that begins without its request."""

    def __init__(self, group: Cgroup, recorder: Recorder, own_fds: Sequence[int]) -> None:
        config = {"linux": {"namespaces": [{"type": kind} for kind in KINDS]}}
        blank = CreateRequest(
            id="", bundle="/", root="/", config=config, group=group, gate=SocketGate(), state=_no_state,
            group_steps=(), own_fds=own_fds, timeout_s=_TIMEOUT_S,
        )  # fmt: skip
        super().__init__(blank, recorder)
        self._ready: Sequence[Step] = ()
        self._before_go: Callable[[], object] = lambda: None

    def stand_by(self, rehearse: Callable[[], None], host_steps: Callable[[int], Sequence[Step]]) -> None:
        """Make the group and the process, which rehearses and waits. Raises InnkeeperError, OSError.

        host_steps: what the request will most likely have as its own, to be done now.
        """
        self._check_group()
        sync, theirs = messages.pair()
        sync.settimeout(_TIMEOUT_S)
        self._talk = Conversation(sync, self._request, self._created, self.work)
        with theirs:
            if not self._bear(lambda entrance: _wait(theirs, entrance, rehearse)):
                raise StartFailed("this kernel makes no process in new namespaces at once")
        self._ready = host_steps(self._created.pid)
        self.work.run(self._ready)

    def fits(self, request: CreateRequest) -> bool:
        """Say whether it can become this."""
        asked, ours = Namespaces.of(request.config), self._request.group
        mapped = any("idmap" in mount.get("options", ()) or "ridmap" in mount.get("options", ())
                     or mount.get("uidMappings") for mount in request.config.get("mounts") or ())  # fmt: skip
        same = request.group is not None and ours is not None and request.group.path == ours.path
        return same and not asked.paths and asked.new == frozenset(KINDS) and not mapped and request.first_fd == 3

    def become(self, request: CreateRequest, before_go: Callable[[], object] = lambda: None) -> Created:
        """Let it be the container's init. Raises StartFailed or another InnkeeperError after undoing everything.

        before_go is called last before init goes on to what cannot be taken back: its program.
        """
        self._request, self._before_go = request, before_go
        return carry_out(self)

    def run(self) -> Created:
        """Do what is left of a creation."""
        request, created, before = self._request, self._created, self._talk
        assert before is not None
        talk = self._talk = Conversation(before.sync, request, created, self.work)
        process.privilege_steps(request.config, request.config["process"], Account(0, 0, (), "/"))
        scene = steps.scene_of(request, self._namespaces)
        self.work.run(rootfs.runtime_steps(scene))
        self.work.run(request.group_steps or ())
        # What only the runtime calls stays here.
        order = replace(request, state=_no_state, host_steps=_no_steps, holding=nullcontext, group_steps=())
        talk.sync.send(pickle.dumps((order, self._namespaces, scene)))
        self._join()
        self._before_go()
        talk.go(self._state_for_init())
        talk.hear_of("created")
        created.sync, created.undo = talk.sync, self.undo
        return created

    def _host_steps(self, pid: int) -> Sequence[Step]:
        """Return what is not done yet; what was done and is not wanted is taken back."""
        wanted = self._request.host_steps(pid)
        for step in self._ready:
            if step not in wanted:
                step.undo()
        return [step for step in wanted if step not in self._ready]


def _wait(sync: socket.socket, entrance: Entrance | None, rehearse: Callable[[], None]) -> None:
    """Run in init-to-be. Nobody but the runtime that forked it has the other end of the connection."""
    rehearse()
    data = sync.recv(_LARGEST)
    if not data:
        os._exit(0)
    request, namespaces, scene = pickle.loads(data)
    init.run(request, namespaces, scene, {}, sync, entrance)


def _no_state(status: str, pid: int) -> Mapping[str, Any]:
    raise AssertionError("the runtime's business")


def _no_steps(pid: int) -> Sequence[Step]:
    return ()
