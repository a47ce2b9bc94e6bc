"""Looking at containers: everything known of one, its trace, processes and log."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from backends.errors import (
    InnkeeperError,
    NotFound,
    WrongState,
)
from backends.kernel import procfs
from backends.model import (
    GuestKind,
    GuestProcess,
    GuestRef,
    Limits,
    LogLine,
)
from backends.native import health, log, tracing
from backends.native.core import KEPT, LIVE, NAME
from backends.native.restraining import Restraining
from backends.native.store import LOG, TRACE
from backends.trace import Recorder, StepRecord


class Looking(Restraining):
    """Reads what there is to know of a container."""

    def inspect(self, ref: GuestRef) -> Mapping[str, Any]:
        """Return record, state, limits, kernel places and the OCI config of a container."""
        record, status = self._store.record(ref.id), self._store.status(ref.id)
        guest = self._guest(ref)
        group = self._group(ref.id)
        live = guest.state in LIVE
        return {
            "id": record.id,
            "name": record.name,
            "backend": NAME,
            "kind": GuestKind.CONTAINER.value,
            "image": record.image,
            "created": record.created_s,
            "labels": record.labels,
            "state": {
                "status": guest.state.value,
                "pid": guest.pid,
                "exit_code": status.exit_code,
                "oom_kills": self._oom_kills(ref.id) if live else status.oom_kills,
                "started": status.started_s,
                "finished": status.finished_s,
                "note": guest.note,
                "restarts": status.restarts,
                "ended_by": status.ended_by or None,
                "health": health.read(self._store.folder(ref.id)) if record.health else None,
            },
            "restart_policy": str(record.restart_policy),
            "limits": limits_json(self.limits(ref)),
            "network": {
                "mode": record.network,
                "networks": [each.to_json() for each in record.endpoints],
                "ports": list(guest.ports),
            },
            "volumes": self._volume_folders(record),
            "named_volumes": record.named_volumes,
            "template": record.template or None,
            "cgroup": {"path": group.path, "folders": sorted(group.directories.values())},
            "namespaces": _namespaces(guest.pid) if live and guest.pid else {},
            "folders": {
                "bundle": str(self._store.folder(ref.id)),
                "layers": record.layers,
                "upper": str(self._store.folder(ref.id) / "upper"),
                "log": str(self._store.folder(ref.id) / LOG),
            },
            "config": self._store.config(ref.id),
        }

    def trace(self, ref: GuestRef) -> Sequence[StepRecord]:
        """Return all steps recorded of it, oldest first."""
        self._store.record(ref.id)
        try:
            lines = tracing.read(self._store.folder(ref.id) / TRACE)
        except FileNotFoundError:
            return []
        # Processes that work at the same time write when they have something to say: order is by the clock.
        records = sorted((StepRecord.from_json(line) for line in lines if line), key=lambda record: record.time_s)
        return [replace(record, sequence=number) for number, record in enumerate(records, 1)]

    def processes(self, ref: GuestRef) -> Sequence[GuestProcess]:
        """Return its processes as the host sees them."""
        self._require_live(ref, "list processes of")
        return procfs.guest_processes(self._group(ref.id).procs())

    def logs(
        self, ref: GuestRef, *, follow: bool = False, tail: int | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[LogLine]:
        """Yield its log; what is written after the call is followed, whenever one begins to read."""
        self._store.record(ref.id)
        path = self._store.folder(ref.id) / LOG
        if follow:
            return log.follow(path, lambda: not self._store.is_supervised(ref.id), stop, tail=tail)
        return log.read(path, tail=tail) if path.exists() else iter(())

    def stream(self, ref: GuestRef, *, stop: Callable[[], bool] = lambda: False) -> Iterator[LogLine]:
        """Yield its log as it grows; the program waits for who reads it."""
        self._store.record(ref.id)
        path = self._store.folder(ref.id) / LOG
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))  # so that there is something to hold
        return log.stream(path, lambda: not self._store.is_supervised(ref.id), stop)

    def clear_log(self, ref: GuestRef, recorder: Recorder) -> None:
        """Forget what it has printed so far."""
        self._store.record(ref.id)
        try:
            if self._guest(ref).state in KEPT:
                self._supervisor(ref).ask({"op": "clear_log"})
                return
        except WrongState:  # it has just ended
            self._wait_for_supervisor(ref)
        log.clear(self._store.folder(ref.id) / LOG)

    def _oom_kills(self, container_id: str) -> int | None:
        try:
            reader = self._group(container_id).reader()
        except NotFound:
            return None
        try:
            return reader.read(time.monotonic()).oom_kills
        except InnkeeperError:
            return None
        finally:
            reader.close()


def limits_json(limits: Limits) -> dict[str, Any]:
    return {name: value for name, value in asdict(limits).items() if value not in (None, ())}


def _namespaces(pid: int) -> dict[str, str]:
    """Return the namespaces of a process, as the kernel names them: "pid:[4026532571]"."""
    found = {}
    for name in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"):
        with suppress(OSError):
            found[name] = os.readlink(f"/proc/{pid}/ns/{name}")
    return found
