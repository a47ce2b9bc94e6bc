"""A container to measure."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from backends.benchmark import BenchGuest
from backends.capabilities import Creating, Executing, Lifecycle, Processes, Removing
from backends.container import ContainerSpec, ExecSpec
from backends.errors import InnkeeperError, TimedOut
from backends.kernel import procfs
from backends.model import GuestRef
from backends.native.images.rootfs import size_of
from backends.native.store import ContainerStore
from backends.trace import Recorder

_FILE = "/var/tmp/innkeeper-bench"


class Runtime(Creating, Executing, Lifecycle, Processes, Removing, Protocol):
    """What is needed of the backend."""


class BenchContainer:
    """A container of the image `host`, in which the host's own programs are."""

    def __init__(self, runtime: Runtime, ref: GuestRef, start_s: float, store: ContainerStore) -> None:
        self._runtime, self._ref, self.start_s = runtime, ref, start_s
        self.title, self.disk_path = "container", _FILE
        self.host_folder = str(store.state_dir)
        self.disk_bytes = size_of(store.folder(ref.id)) + size_of(store.state_dir / "images" / "host")
        pids = [process.pid for process in runtime.processes(ref)]
        self.memory_bytes: int | None = procfs.pss_bytes([*pids, store.supervisor_pid(ref.id)])

    def run(self, line: str, *, timeout_s: float) -> str:
        """Run a shell line in it."""
        with tempfile.TemporaryFile() as output, open(os.devnull, "rb") as null:
            streams = (null.fileno(), output.fileno(), output.fileno())
            # timeout(1) ends the line inside: a session that is closed only says SIGHUP.
            args = ("timeout", f"{timeout_s:g}", "sh", "-c", line)
            session = self._runtime.exec(self._ref, ExecSpec(args), streams)
            try:
                code = session.wait()
            finally:
                session.close()
            output.seek(0)
            text = output.read().decode(errors="replace")
        if code == 124:
            raise TimedOut(f"in the container: {line}: not done after {timeout_s:g} s")
        if code:
            last = (text.strip().splitlines() or [f"it ended with {code}"])[-1]
            raise InnkeeperError(f"in the container: {line}: {last}")
        return text


@contextmanager
def bench_container(runtime: Runtime, store: ContainerStore) -> Iterator[BenchGuest]:
    """Make and start one, and remove it after the body."""
    recorder = Recorder("client")
    # Once before, so that what only the first start does (the spawner, the bridge) is not counted as this one's.
    _start(runtime, recorder, ("true",))[1]()
    began = time.perf_counter()
    ref, remove = _start(runtime, recorder, ("sleep", "infinity"))
    try:
        yield BenchContainer(runtime, ref, time.perf_counter() - began, store)
    finally:
        remove()


def _start(runtime: Runtime, recorder: Recorder, args: tuple[str, ...]) -> tuple[GuestRef, _Remover]:
    spec = ContainerSpec("host", args, labels={"innkeeper.bench": "1"})
    guest = runtime.create(spec, recorder)
    remover = _Remover(runtime, guest.ref)
    try:
        runtime.start(guest.ref, recorder)
    except BaseException:
        remover()
        raise
    return guest.ref, remover


class _Remover:
    def __init__(self, runtime: Runtime, ref: GuestRef) -> None:
        self._runtime, self._ref = runtime, ref

    def __call__(self) -> None:
        self._runtime.remove(self._ref, Recorder("client"), force=True)
