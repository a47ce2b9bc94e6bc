"""Innkeeper as the start benchmark drives it: a state folder of its own, in this process and by command line."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends.container import ContainerSpec
from backends.errors import InnkeeperError
from backends.model import Guest
from backends.native import protocol
from backends.native.backend import NativeBackend, make
from backends.native.network import bridge_name
from backends.registry import BackendConfig
from backends.trace import Recorder
from tests.bench.start_peers import Cost, cpu_s

_ROOT = Path(__file__).resolve().parents[2]
R = Recorder("bench")


class Inn:
    """A native backend of its own."""

    def __init__(self, state: Path, image: Path) -> None:
        self.state = state
        self.backend: NativeBackend = make(BackendConfig(state, state / "run"))
        self._image = image

    def __enter__(self) -> Inn:
        self.backend.open()
        self.backend.image_import("bench", str(self._image), R)
        self.remove(self.run("true"))  # the spawner is warm from now on
        return self

    def __exit__(self, *_: object) -> None:
        for guest in self.backend.guests():
            with suppress(InnkeeperError):
                self.backend.remove(guest.ref, R, force=True)
        self.backend.clean(R)
        self.backend.shutdown()
        self.backend.close()

    def config(self) -> dict[str, Any]:
        """Return the config.json of a container that is kept until the end."""
        guest = self.backend.create(ContainerSpec("bench", ("true",)), R)
        found: dict[str, Any] = json.loads((self.state / "containers" / guest.ref.id / "config.json").read_text())
        return found

    def run(self, *args: str, network: str = "bridge", name: str | None = None) -> Guest:
        """Make and start a container."""
        spec = ContainerSpec("bench", args, network=network, name=name)
        if hasattr(self.backend, "run"):
            guest: Guest = self.backend.run(spec, R)
            return guest
        guest = self.backend.create(spec, R)
        self.backend.start(guest.ref, R)
        return guest

    def remove(self, guest: Guest) -> None:
        """Remove it, whatever it does."""
        self.backend.remove(guest.ref, R, force=True)

    def request(self, network: str) -> Cost:
        """Time from the request for a new container to the answer that its program was executed.

        The request is made as `inn run` makes it, over the spawner's socket.
        """
        spec = {"image": "bench", "args": ["true"], "network": network}
        request = {"op": "run", "spec": spec, "code": str(_ROOT)}
        cpu, before = self._cpu_s(), time.perf_counter()
        with protocol.connect(self.state / "run" / "spawner", 5.0) as sock:
            protocol.send(sock, request)
            sock.settimeout(60.0)
            answer, _ = protocol.receive(sock)
        wall = time.perf_counter() - before
        if "error" in answer:
            raise RuntimeError(answer["error"])
        guest = next(guest for guest in self.backend.guests() if guest.ref.id == answer["id"])
        self.backend.wait(guest.ref)
        self.remove(guest)
        return wall, self._cpu_s() - cpu

    def start(self, network: str) -> Cost:
        """Time the start of a container that was made before."""
        guest = self.backend.create(ContainerSpec("bench", ("true",), network=network), R)
        before, cpu = time.perf_counter(), self._cpu_s()
        self.backend.start(guest.ref, R)
        wall = time.perf_counter() - before
        self.backend.wait(guest.ref)
        self.remove(guest)
        return wall, self._cpu_s() - cpu

    def oneshot(self, *options: str) -> Cost:
        """Time `inn run --rm`, from its start to its end; the spawner's CPU time counts too."""
        line = [str(_ROOT / "inn"), "--root", str(self.state), "run", "--rm", *options, "bench", "true"]
        cpu = self._cpu_s()
        began = time.perf_counter()
        pid = os.posix_spawn(line[0], line, os.environ)
        _, status, used = os.wait4(pid, 0)
        wall = time.perf_counter() - began
        if status:
            raise RuntimeError(f"{subprocess.list2cmdline(line)}: status {status}")
        return wall, used.ru_utime + used.ru_stime + self._cpu_s() - cpu

    @property
    def parent(self) -> str:
        """Name of the group that its containers are in."""
        return "innkeeper-" + bridge_name(self.state, is_default=False).removeprefix("inn-")

    def settle(self) -> None:
        """Wait until no supervisor is on its way out."""
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline and any((self.state / "run" / "containers").glob("*/alive")):
            time.sleep(0.01)

    def spawner_pid(self) -> int:
        """Return the process that forks the supervisors."""
        with protocol.connect(self.state / "run" / "spawner", 5.0) as sock:
            return protocol.peer_pid(sock)

    def supervisor_pid(self, guest: Guest) -> int:
        """Return the process that looks after a container."""
        with protocol.connect(self.state / "run" / "containers" / guest.ref.id / "control", 5.0) as sock:
            return protocol.peer_pid(sock)

    def _cpu_s(self) -> float:
        own = resource.getrusage(resource.RUSAGE_SELF)
        with suppress(OSError):
            return own.ru_utime + own.ru_stime + cpu_s(self.spawner_pid())
        return own.ru_utime + own.ru_stime
