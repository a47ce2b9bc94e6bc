"""Containers made by the engine itself (backends/oci/create.py), without a command line around it."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.errors import InnkeeperError
from backends.kernel import linux
from backends.kernel.cgroup import Cgroup, detect
from backends.oci.create import create, started
from backends.oci.gate import FifoGate, Gate, SocketGate, start_by_fifo
from backends.oci.join import Joined, JoinRequest, join
from backends.oci.request import Created, CreateRequest
from backends.oci.state import start_ticks
from backends.trace import Recorder
from tests.tools.bundles import Bundle

_END_S = 20.0
KINDS = {"mount": "mnt", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}
"""Types of namespaces, and their names below /proc/PID/ns."""

MAPS = [{"containerID": 0, "hostID": 100000, "size": 65536}]


@dataclass
class Engine:
    """Makes containers of one bundle, and ends them."""

    bundle: Bundle
    made: list[Created] = field(default_factory=list)
    groups: list[Cgroup] = field(default_factory=list)
    recorder: Recorder = field(default_factory=lambda: Recorder("runtime", lambda record: None))

    @property
    def config(self) -> dict[str, Any]:
        return self.bundle.config

    def program(self, *args: str) -> None:
        """Say what the container runs."""
        self.config["process"]["args"] = list(args)

    def hook(self, kind: str, script: str, **more: Any) -> None:
        """Add a hook: a shell script of the host's."""
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], **more}
        self.config.setdefault("hooks", {}).setdefault(kind, []).append(hook)

    def create(self, gate: Gate | None = None, **fields: Any) -> Created:
        """Create a container in a group of its own; it waits at its gate."""
        group = detect().group(f"inn-engine-{os.getpid()}/c{len(self.groups)}")
        self.groups.append(group)
        request = CreateRequest(
            id=f"engine{len(self.groups)}",
            bundle=str(self.bundle.folder),
            root=str(self.bundle.folder / "rootfs"),
            config=self.config,
            group=fields.pop("group", group),
            gate=gate or SocketGate(),
            state=self.state,
            **fields,
        )
        created = create(request, self.recorder)
        self.made.append(created)
        return created

    def create_group(self) -> None:
        """Make the group that the next container is to be in."""
        group = detect().group(f"inn-engine-{os.getpid()}/c{len(self.groups)}")
        for step in group.create_steps():
            step.run()

    def state(self, status: str, pid: int) -> dict[str, Any]:
        return {"ociVersion": "1.2.0", "id": "engine", "status": status, "pid": pid, "bundle": str(self.bundle.folder)}

    def fifo(self) -> FifoGate:
        """Return a gate for a runtime that does not stay."""
        os.mkfifo(self.bundle.folder / "fifo", 0o600)
        return FifoGate(str(self.bundle.folder / "fifo"))

    def start(self, created: Created) -> None:
        """Open the gate of a container, whichever it has."""
        if created.sync is not None and not (self.bundle.folder / "fifo").exists():
            started(created)
        else:
            start_by_fifo(str(self.bundle.folder / "fifo"), created.pidfd, timeout_s=_END_S)

    def output(self, **fields: Any) -> str:
        """Run the container to its end and return what it printed."""
        with captured() as (stdio, read):
            created = self.create(stdio=stdio, **fields)
            self.start(created)
            wait_for(created.pidfd)
            return read()

    def running(self, **fields: Any) -> Created:
        """Return a container that runs until it is ended."""
        self.program("sleep", "1000")
        created = self.create(**fields)
        self.start(created)
        return created

    def request(self, created: Created, *args: str, **fields: Any) -> JoinRequest:
        """Return what runs a program in a container."""
        process = {**self.config["process"], "args": list(args), **fields.pop("process", {})}
        number = self.made.index(created)
        values: dict[str, Any] = {
            "id": f"engine{number + 1}", "pid": created.pid, "started_ticks": start_ticks(created.pid),
            "config": self.config,
            "process": process,
            "group": self.groups[number],
        }  # fmt: skip
        return JoinRequest(**values | fields)

    def join(self, created: Created, *args: str, **fields: Any) -> Joined:
        """Run a program in a container."""
        return join(self.request(created, *args, **fields))

    def said(self, created: Created, *args: str, **fields: Any) -> str:
        """Run a program in a container to its end, and return what it printed."""
        with captured() as (stdio, read):
            joined = self.join(created, *args, stdio=stdio, **fields)
            self.wait(joined)
            return read()

    def wait(self, joined: Joined) -> None:
        """Wait for the end of a program; the first process cannot end before it has been reaped."""
        wait_for(joined.pidfd)
        os.waitpid(joined.pid, 0)
        os.close(joined.pidfd)

    def close(self) -> None:
        """End everything."""
        for created in reversed(self.made):
            created.undo()
        for group in self.groups:
            with suppress(InnkeeperError):
                if group.is_populated():
                    group.kill()
            group.remove()
        detect().group(f"inn-engine-{os.getpid()}").remove_if_unused()
        self.bundle.remove()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue


@contextmanager
def engine_at(folder: Path) -> Iterator[Engine]:
    """Yield an engine; this process adopts what it makes, so that ends can be waited for."""
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    engine = Engine(Bundle.make(folder))
    try:
        yield engine
    finally:
        engine.close()
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 0)


@contextmanager
def captured() -> Iterator[tuple[Sequence[int], Callable[[], str]]]:
    """Yield descriptors for a program and a function that returns what was written to them, at their end."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def read() -> str:
        nonlocal writing
        os.close(writing)
        writing = -1
        with os.fdopen(os.dup(reading), "rb") as file:
            return file.read().decode()

    try:
        yield (null, writing, writing), read
    finally:
        for fd in (reading, null, writing):
            if fd >= 0:
                os.close(fd)


def wait_for(pidfd: int) -> None:
    """Wait until a process has ended."""
    assert select.select([pidfd], [], [], _END_S)[0], "it does not end"


def kill(created: Created) -> None:
    """Kill a container's first process and wait until it is dead."""
    signal.pidfd_send_signal(created.pidfd, signal.SIGKILL)
    wait_for(created.pidfd)


def namespace(pid: int | str, kind: str) -> str:
    """Return which namespace a process is in."""
    return os.readlink(f"/proc/{pid}/ns/{KINDS.get(kind, kind)}")


def with_userns(engine: Engine) -> None:
    """Give the container a user namespace whose root is nobody outside."""
    engine.config["linux"]["namespaces"].append({"type": "user"})
    engine.config["linux"] |= {"uidMappings": MAPS, "gidMappings": MAPS}
    for path in (engine.bundle.folder, engine.bundle.folder / "rootfs"):
        path.chmod(0o755)


def read_terminal(fd: int) -> str:
    """Read a terminal's master until the last process has closed the other side."""
    text = b""
    with os.fdopen(fd, "rb", buffering=0) as file:
        while True:
            try:
                text += file.read(1000)
            except OSError:
                return text.decode()
