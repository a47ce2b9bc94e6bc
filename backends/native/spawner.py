"""The warm process that forks supervisors, so that a start costs a fork and not an interpreter's start.

One a state folder. It starts on first use, holds no state, and may die or be replaced at any time:
supervisors go on without it. While it lives it notices a supervisor's death and cleans up after it.
It ends by itself when it has been idle for a while.
"""

from __future__ import annotations

import codecs
import fcntl
import gc
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends.errors import InnkeeperError, os_error_text
from backends.kernel import cloning, linux, nft, seccomp
from backends.kernel.cgroup import CgroupHost
from backends.native import backend, newborn, protocol, rootless
from backends.native.code import LoadedCode
from backends.native.core import PARENT
from backends.native.network import bridge_name, tidy_bridge
from backends.native.pool import Pool
from backends.native.resolver import server as resolver
from backends.native.resolver.keeper import ResolverKeeper
from backends.native.revival import Revival, revive
from backends.native.seccomp_profile import default_profile
from backends.native.store import ContainerStore, new_id
from backends.native.supervisor import Supervisor
from backends.native.sweep import KEEPER, STANDS_BY, is_left_alone
from backends.native.template import Template
from backends.registry import BackendConfig

_IDLE_S = 120.0
_LINKS_GO_S = 1.0
_REQUEST_TIMEOUT_S = 5.0
_LOOK_S = 10.0
_TAKE_OVER_S = 10.0
_GAVE_UP = 3
"""Exit code of who could not clean up after a supervisor: it is not tried again before somebody asks."""


class Spawner:
    """Answers start requests by forking."""

    def __init__(self, store: ContainerStore, host: CgroupHost, parent: str, lock: int) -> None:
        self._lock = lock
        self._store, self._host = store, host
        self._is_default = parent == PARENT
        self._backend = backend.make(BackendConfig(store.state_dir, store.run_dir))
        self._backend.be_at(host)
        self._code = LoadedCode()
        self._pool = Pool(store.run_dir / STANDS_BY, self._fork_one_to_stand_by)
        self._names = ResolverKeeper(store.run_dir, self._fork_resolver, self._is_resolver_needed)
        self._keeper = host.group(f"{parent}/{KEEPER}")
        self._supervisors: dict[int, str] = {}
        self._revival = Revival(store, self._revive)
        self._clients: dict[socket.socket, float] = {}
        """Those that have not asked yet, and since when."""

        self._selector = selectors.DefaultSelector()
        self._used_s = time.monotonic()
        self._ends = False

    def serve(self) -> None:
        """Serve until idle for long or told to end."""
        self._move_out()
        works = {"start": self._supervise, "run": self._make, "revive": self._take_up, "stand by": self._stand_by,
                 "names": self._answer_names}  # fmt: skip
        self._template = Template(works)
        self._catch_children()
        self._listener = protocol.listen(self._store.run_dir / "spawner")
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        _say_ready()
        self._look()
        if not rootless.is_inside():
            self._names.adopt(self._watch, self._ignore)
        while not self._ends and not self._is_idle():
            events = self._selector.select(self._names.wait_s(self._pool.wait_s(_LOOK_S)))
            for key, _ in events:
                key.data()
            if events:
                self._pool.later()
            else:
                self._pool.refill()
            self._names.do_what_is_due()
            self._drop_silent(time.monotonic())
        (self._store.run_dir / "spawner").unlink(missing_ok=True)
        self._pool.end()
        self._names.end(is_needed=self._is_resolver_needed())
        self._template.close()
        self._move_back()

    def _is_idle(self) -> bool:
        return not self._supervisors and time.monotonic() - self._used_s > _IDLE_S

    def _move_out(self) -> None:
        """Leave the caller's cgroup: its session may end, be limited or be frozen; containers must not."""
        with suppress(OSError, InnkeeperError):
            for step in self._keeper.create_steps():
                step.run()
            self._keeper.enter(os.getpid())

    def _move_back(self) -> None:
        """Take down what was kept for the next start; leave our own cgroup, so that it can go with us."""
        with suppress(OSError):
            bridge = bridge_name(self._store.state_dir, is_default=self._is_default)
            # The kernel takes down the links of containers that have just ended in its own time.
            tidy_bridge(self._store.run_dir, bridge, patience_s=0.0 if self._supervisors else _LINKS_GO_S)
        with suppress(OSError, InnkeeperError):
            self._host.top().enter(os.getpid())
        with suppress(OSError, InnkeeperError):
            self._keeper.remove()
            self._host.group(self._keeper.path.partition("/")[0]).remove_if_unused()

    def _catch_children(self) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._selector.register(reading, selectors.EVENT_READ, lambda: self._reap(reading))
        self._wake_up = reading, writing

    def _reap(self, fd: int) -> None:
        with suppress(BlockingIOError):
            os.read(fd, 512)
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._used_s = time.monotonic()
            if self._names.reaped(pid):
                continue
            self._pool.forget(pid)
            container_id = self._supervisors.pop(pid, None)
            if container_id is not None and os.waitstatus_to_exitcode(wait_status) != _GAVE_UP:
                self._revival.after(container_id)

    def _look(self) -> None:
        with suppress(InnkeeperError, OSError):
            self._revival.look(self._selector, lambda container_id: container_id in self._supervisors.values())

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # it has gone already, or we are out of descriptors
            return
        if not protocol.peer_is_trusted(client):
            client.close()
            return
        self._used_s = self._clients[client] = time.monotonic()
        client.setblocking(False)
        self._selector.register(client, selectors.EVENT_READ, lambda: self._serve_client(client))

    def _serve_client(self, client: socket.socket) -> None:
        self._let_go(client)
        with client, suppress(protocol.Closed, OSError, ValueError):
            message, fds = protocol.receive(client)
            client.settimeout(_REQUEST_TIMEOUT_S)
            try:
                self._answer(client, message, fds)
            finally:
                for fd in fds:
                    os.close(fd)

    def _let_go(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        del self._clients[client]

    def _drop_silent(self, now_s: float) -> None:
        for client in [c for c, since_s in self._clients.items() if now_s - since_s > _REQUEST_TIMEOUT_S]:
            self._let_go(client)
            client.close()

    def _answer(self, client: socket.socket, message: Mapping[str, Any], fds: Sequence[int]) -> None:
        operation = message.get("op")
        if operation == "start":
            self._start(client, message, fds)
        elif operation == "run":
            self._run(client, message)
        elif operation == "look":
            with suppress(protocol.Closed, OSError):  # who wakes us need not wait for an answer
                protocol.send(client, {"ok": True})
            self._look()
            if not rootless.is_inside():
                self._names.see_to_it_if_needed()
        elif operation == "ping":
            protocol.send(client, {"ok": True, "pid": os.getpid()})
        elif operation == "shutdown":
            self._ends = True
            protocol.send(client, {"ok": True})
        else:
            protocol.send(client, {"error": "unknown request"})

    def _start(self, client: socket.socket, message: Mapping[str, Any], fds: Sequence[int]) -> None:
        container_id = str(message.get("id"))
        if self._sends_away(client, message):
            return
        self._fork_for(client, container_id, "start", {"id": container_id}, fds)
        self._have_names(container_id)

    def _sends_away(self, client: socket.socket, message: Mapping[str, Any]) -> bool:
        """End, and have the client start another spawner, if the code on disk is not what is loaded here."""
        if self._code.is_as_loaded(message.get("code")):
            return False
        protocol.send(client, {"stale": True})
        self._ends = True
        return True

    def _run(self, client: socket.socket, message: Mapping[str, Any]) -> None:
        if self._sends_away(client, message):
            return
        pid, container_id = self._pool.take(message, client)
        if pid:
            self._supervisors[pid] = container_id
        else:
            container_id = new_id()
            self._fork_for(client, container_id, "run", {**message, "id": container_id})
        if (message.get("spec") or {}).get("network", "bridge") not in ("none", "host"):
            self._names.see_to_it()

    def _fork_for(
        self, client: socket.socket, container_id: str, work: str, message: Mapping[str, Any], fds: Sequence[int] = ()
    ) -> None:
        """Fork a supervisor, which answers the client."""
        try:
            self._supervisors[self._template.fork(work, message, [client.fileno(), *fds])] = container_id
        except OSError as error:
            protocol.send(client, {"error": f"cannot fork its supervisor: {os_error_text(error)}", "exit_code": 125})

    def _revive(self, container_id: str) -> None:
        """Have a container cleaned up whose supervisor died, by a process that may become its next one."""
        self._supervisors[self._template.fork("revive", {"id": container_id})] = container_id
        self._have_names(container_id)

    def _have_names(self, container_id: str) -> None:
        """See to the resolver if a container that is being started asks it."""
        with suppress(InnkeeperError):
            if self._store.record(container_id).network == "bridge":
                self._names.see_to_it()

    def _is_resolver_needed(self) -> bool:
        """Say whether a container that has a supervisor is on networks."""
        for container_id in self._store.ids():
            with suppress(InnkeeperError):
                if self._store.is_supervised(container_id) and self._store.record(container_id).network == "bridge":
                    return True
        return False

    def _fork_resolver(self, listener_fd: int) -> int:
        self._pool.close()  # whose sockets for names the last one had
        return self._template.fork("names", {"spawner": os.getpid()}, [listener_fd])

    def _ignore(self, fd: int) -> None:
        self._selector.unregister(fd)

    def _watch(self, fd: int, work: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, work)

    def _fork_one_to_stand_by(self, orders: socket.socket, like: Mapping[str, Any]) -> int:
        return self._template.fork("stand by", like, [orders.fileno()])

    # ------------------------------------------------------------------ what the forks do

    def _supervise(self, message: Mapping[str, Any], fds: Sequence[int]) -> int:
        """Start a container and keep it. Beside the client's connection come the secrets, if there are any."""
        with _client(fds[0]) as client:
            try:
                supervisor = Supervisor(self._store, str(message["id"]), self._host, *fds[1:2])
                supervisor.start(client)
            except Exception as error:  # the end of a forked process
                with suppress(protocol.Closed, OSError):
                    protocol.send(client, protocol.error_message(error))
                if not isinstance(error, InnkeeperError | OSError):
                    raise
                return 0
        supervisor.serve()
        return 0

    def _make(self, message: Mapping[str, Any], fds: Sequence[int]) -> int:
        """Make a container, start it and keep it."""
        return newborn.supervise(self._backend, message, _client(fds[0]))

    def _take_up(self, message: Mapping[str, Any], fds: Sequence[int]) -> int:
        """Clean up after a supervisor that died, and keep its container, if that is wanted."""
        container_id = str(message["id"])
        with suppress(InnkeeperError, OSError):
            revive(self._store, self._host, container_id)
        with suppress(InnkeeperError, OSError):
            return _GAVE_UP if is_left_alone(self._store, container_id) else 0
        return 0

    def _answer_names(self, message: Mapping[str, Any], fds: Sequence[int]) -> int:
        """Answer for names of containers."""
        return resolver.serve(self._store, socket.socket(fileno=fds[0]), int(message["spawner"]))

    def _stand_by(self, message: Mapping[str, Any], fds: Sequence[int]) -> int:
        """Wait for an order to make a container."""
        return newborn.stand_by(self._backend, socket.socket(fileno=fds[0]), message)


def _client(fd: int) -> socket.socket:
    client = socket.socket(fileno=fd)
    client.settimeout(_REQUEST_TIMEOUT_S)
    return client


def _say_ready() -> None:
    with suppress(KeyError, ValueError, OSError):
        os.close(int(os.environ.pop(protocol.READY)))


def main(state_dir: str, run_dir: str, parent: str) -> None:
    """Run the spawner in this process, which has been started for it; returns when it ends."""
    linux.set_process_name("inn-spawner")
    store = ContainerStore(Path(state_dir), Path(run_dir))
    lock = os.open(Path(run_dir) / "spawner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _take(lock, Path(run_dir) / "spawner"):
        return  # another one is up
    if not seccomp.why_unavailable():
        seccomp.compile_filter(default_profile())
    nft.why_unavailable()  # loads the library, and its five
    for name in ("ascii", "idna"):
        codecs.lookup(name)
    cloning.prepare()
    # What is loaded now is shared with every supervisor; the collector must not touch, and so copy, it.
    gc.collect()
    gc.freeze()
    Spawner(store, rootless.host(store.run_dir), parent, lock).serve()


def _take(lock: int, path: Path) -> bool:
    """Take the lock that only one spawner has; waits for one on its way out, which has no socket any more."""
    deadline = time.monotonic() + _TAKE_OVER_S
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        with suppress(OSError):
            protocol.connect(path, 1.0).close()
            return False
        time.sleep(0.01)
    return False
