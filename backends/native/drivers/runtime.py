"""runc and crun as drivers, by the command line that both have.

::

    create   cgroup made and limited by us · RUNTIME create, in a mount namespace with the image's overlay
             cgroups joined, network made by us · RUNTIME start
    exec     RUNTIME exec --detach
    end      RUNTIME delete --force
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backends.errors import InnkeeperError, StartFailed, Unsupported, os_error_text
from backends.kernel.account import Account
from backends.kernel.cgroup import CgroupHost
from backends.native.drivers import bundle, command, console
from backends.native.drivers.console import ConsoleSocket
from backends.native.drivers.namespace import InNetwork
from backends.native.secrets import PlaceSecrets
from backends.oci.ending import end
from backends.oci.join_request import JoinRequest
from backends.oci.passage import Passage
from backends.oci.request import Created, CreateRequest
from backends.trace import Recorder, Step

_TIMEOUT_S = 60.0
_FORGET_S = 10.0


@dataclass(frozen=True, slots=True)
class Runtime:
    """An installed runtime, and where it keeps what it knows of one container."""

    name: str
    path: str
    run_dir: Path

    @property
    def root(self) -> Path:
        """Its own state folder."""
        return self.run_dir / "drivers" / self.name

    def folder(self, container_id: str) -> Path:
        """The bundle."""
        return self.run_dir / "containers" / container_id / "bundle"

    def words(self, container_id: str, *words: str) -> list[str]:
        """Return a whole command line."""
        log = self.log(container_id)
        return [self.path, "--root", str(self.root), "--log", str(log), "--log-format", "json", *words, container_id]

    def log(self, container_id: str) -> Path:
        """Where it says what went wrong."""
        return self.folder(container_id) / "log.json"

    def run(self, container_id: str, *words: str, timeout_s: float = _TIMEOUT_S) -> None:
        """Run one of its commands that takes no input. Raises StartFailed."""
        folder = self.folder(container_id)
        command.run(
            self.words(container_id, *words), stdio=(), folder=folder, log=self.log(container_id), timeout_s=timeout_s
        )


class RuntimeDriver:
    """A container made by an installed runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.name = runtime.name
        self._runtime = runtime
        self._id = ""

    @classmethod
    def found(cls, name: str, run_dir: Path) -> RuntimeDriver:
        """Raises Unsupported if it is not installed."""
        return cls(Runtime(name, command.find(name), run_dir))

    def check(self, host: CgroupHost) -> None:
        """Raise Unsupported where it cannot work."""
        if self.name == "crun" and host.mode == "hybrid":
            hint = "use --driver native or runc, or start the host with cgroup v2 alone"
            raise Unsupported("driver crun: it does not run where cgroups are hybrid, as on this host", hint=hint)

    def create(self, request: CreateRequest, recorder: Recorder) -> Created:
        """Make the container; its program waits for started()."""
        self._id = request.id
        making = _Making(self._runtime, request, recorder)
        try:
            return making.run()
        except BaseException as error:
            making.undo()
            if isinstance(error, OSError):
                raise StartFailed(os_error_text(error)) from error
            raise

    def started(self, created: Created) -> None:
        """Let the program run."""
        self._runtime.run(self._id, "start")

    def begin_join(self, request: JoinRequest) -> Passage:
        """Run a further program by the runtime's exec."""
        from backends.native.drivers.joining import begin

        return begin(self._runtime, request)

    def explain(self, request: CreateRequest, user: Account) -> Sequence[tuple[str, Step]]:
        """What we do ourselves, and what the runtime is called for."""
        making = _Making(self._runtime, request, Recorder("supervisor"))
        prepared = [("runtime", step) for step in request.before_mounts]
        steps = [*making.before(), *making.after(0)]
        create = next(index for index, step in enumerate(steps) if isinstance(step, RunCreate))
        ours = [("supervisor", step) for step in steps]
        return [*ours[:create], *prepared, *ours[create:], ("supervisor", RunStart(self._runtime, request.id))]


def forget(name: str, run_dir: Path, container_id: str) -> None:
    """Let a runtime forget a container, whatever has become of it, and remove its bundle."""
    runtime = Runtime(name, "", run_dir)
    known, folder = runtime.root / container_id, runtime.folder(container_id)
    with suppress(InnkeeperError, OSError):
        if known.exists():
            folder.mkdir(parents=True, exist_ok=True)
            found = Runtime(name, command.find(name), run_dir)
            found.run(container_id, "delete", "--force", timeout_s=_FORGET_S)
    shutil.rmtree(known, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


class _Making:
    """What has been made so far, so that a failure can take it back."""

    def __init__(self, runtime: Runtime, request: CreateRequest, recorder: Recorder) -> None:
        self._runtime, self._request, self._recorder = runtime, request, recorder
        self._done: list[Step] = []
        self._created = Created(0, -1)

    def before(self) -> list[Step]:
        """Return what comes up to the runtime's work; the devices are its own to allow."""
        group = self._request.group
        assert group is not None
        limits = [step for step in self._request.group_steps or () if step.kind != "devices"]
        return [*group.create_steps(), *limits, RunCreate(self._runtime, self._request)]

    def after(self, pid: int) -> list[Step]:
        """Return what we do once its first process waits."""
        request = self._request
        entering = request.group.enter_steps(pid) if request.group is not None else ()
        inside = [InNetwork(step, pid) for step in request.in_container if not isinstance(step, PlaceSecrets)]
        return [*entering, *request.host_steps(pid), *inside]

    def run(self) -> Created:
        forget(self._runtime.name, self._runtime.run_dir, self._request.id)
        folder = self._runtime.folder(self._request.id)
        folder.mkdir(mode=0o700, parents=True)
        self._runtime.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for step in self.before():
            found = self._recorder.run(step)
            self._done.append(step)
        pid, terminal_fd = found
        self._created = Created(pid, os.pidfd_open(pid), terminal_fd, None, self.undo)
        with self._request.holding():
            for step in self.after(pid):
                self._recorder.run(step)
                self._done.append(step)
        return self._created

    def undo(self) -> None:
        """Take back what was done, last first."""
        created, group = self._created, self._request.group
        forget(self._runtime.name, self._runtime.run_dir, self._request.id)
        if created.pidfd >= 0:
            end(created.pid, created.pidfd)
        if created.terminal_fd is not None:
            os.close(created.terminal_fd)
        for step in reversed(self._done):
            with suppress(OSError, InnkeeperError):
                step.undo()
        with suppress(OSError, InnkeeperError):
            if group is not None and group.exists():
                group.kill()
                group.remove()
        self._done, self._created = [], Created(0, -1)


class _Command:
    """Base of the steps that call a runtime."""

    kind = "runtime"

    def undo(self) -> None:
        """Done by deleting the container."""


@dataclass(frozen=True, slots=True)
class RunCreate(_Command):
    """RUNTIME create: everything up to the waiting program; returns its pid and the terminal's master."""

    runtime: Runtime
    request: CreateRequest

    def describe(self) -> str:
        return f"let {self.runtime.name} make the container, with its root mounted where only it sees it"

    def by_hand(self) -> str:
        return f"unshare -m {' '.join(self._words())}"

    def run(self) -> tuple[int, int | None]:
        runtime, request = self.runtime, self.request
        folder = runtime.folder(request.id)
        socket = ConsoleSocket(folder) if request.config["process"].get("terminal") else None
        try:
            command.run(
                self._words(),
                stdio=() if socket is not None else request.stdio,
                folder=folder,
                log=runtime.log(request.id),
                timeout_s=request.timeout_s or _TIMEOUT_S,
                prepare=lambda: bundle.prepare(request, folder),
            )
            master = socket.take() if socket is not None else None
        finally:
            if socket is not None:
                socket.close()
        return int((folder / "pid").read_text()), master

    def _words(self) -> list[str]:
        folder = self.runtime.folder(self.request.id)
        words = ["create", "--bundle", str(folder), "--pid-file", str(folder / "pid")]
        if self.request.config["process"].get("terminal"):
            words += ["--console-socket", console.NAME]
        return self.runtime.words(self.request.id, *words)


@dataclass(frozen=True, slots=True)
class RunStart(_Command):
    """RUNTIME start, as it is shown; started() does it."""

    runtime: Runtime
    container_id: str

    def describe(self) -> str:
        return f"let {self.runtime.name} start the program"

    def by_hand(self) -> str:
        return " ".join(self.runtime.words(self.container_id, "start"))

    def run(self) -> None:
        self.runtime.run(self.container_id, "start")
