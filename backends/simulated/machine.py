"""One simulated guest: its state, its figures, its snapshots, its trace."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from backends.container import RestartPolicy
from backends.metrics import Sample
from backends.model import Guest, GuestKind, GuestProcess, GuestRef, GuestState, Limits
from backends.simulated.journal import Journal
from backends.simulated.load import Load, appetite
from backends.simulated.snapshots import SnapshotTree
from backends.trace import StepRecord

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Moment:
    """One point in time on both clocks."""

    monotonic_s: float
    epoch_s: float


class Machine:
    """A guest in memory. The world's lock guards it."""

    def __init__(
        self,
        ref: GuestRef,
        name: str,
        kind: GuestKind,
        image: str,
        created_s: float,
        random: Random,
        limits: Limits,
    ) -> None:
        self.ref, self.name, self.kind, self.image, self.created_s = ref, name, kind, image, created_s
        self.limits = limits
        self.state = GuestState.CREATED
        self.exit_code: int | None = None
        self.started_s: float | None = None
        self.pid: int | None = None
        self.note = ""
        self.restart_policy = RestartPolicy()
        self.snapshots = SnapshotTree()
        self.records: list[StepRecord] = []
        self.journal = Journal(random)
        self.command = image
        self.template = ""
        self.networks: tuple[str, ...] = ()
        self.ports: tuple[str, ...] = ()
        self._appetite = appetite(random, kind)
        is_vm = kind is GuestKind.VM
        self.cpu_count = random.choice((1, 2, 4)) if is_vm else None
        self.memory_total_bytes = 2 * GIB if is_vm else None
        self.address = f"10.23.{random.randint(0, 255)}.{random.randint(2, 254)}"
        self._load: Load | None = None
        self._oom_kills: int | None = None
        self._guest: Guest | None = None

    def guest(self) -> Guest:
        """Return it as others see it; the same object as long as nothing changed."""
        if self._guest is None:
            self._guest = Guest(
                ref=self.ref, name=self.name, kind=self.kind, state=self.state, image=self.image,
                created_s=self.created_s, started_s=self.started_s, limits=self.limits, pid=self.pid,
                cpu_count=self.cpu_count, memory_total_bytes=self.memory_total_bytes, exit_code=self.exit_code,
                oom_kills=self._oom_kills, note=self.note,
                addresses=(self.address,) if self.state.is_live else (),
                networks=self.networks, ports=self.ports if self.state.is_live else (),
                restart_policy="" if self.restart_policy.name == "no" else str(self.restart_policy),
            )  # fmt: skip
        return self._guest

    def changed(self) -> None:
        """Its next guest() differs."""
        self._guest = None

    def start(self, now: Moment, pid: int) -> None:
        """It runs from now on, with counters from zero."""
        self._load = Load(self._appetite, now.monotonic_s)
        self.state, self.started_s, self.pid = GuestState.RUNNING, now.epoch_s, pid
        self.exit_code, self._oom_kills, self.note = None, 0, ""
        self.journal.begin(now.epoch_s)
        self.changed()

    def end(self, now: Moment, exit_code: int, note: str) -> None:
        """It does not run any more."""
        self.journal.end(now.epoch_s)
        self._load, self.pid, self.state, self.note = None, None, GuestState.STOPPED, note
        self.exit_code = exit_code if self.kind is GuestKind.CONTAINER else None
        self.changed()

    def pause(self) -> None:
        """Freeze it."""
        self.state = GuestState.PAUSED
        self.changed()

    def resume(self, now: Moment) -> None:
        """Thaw it."""
        self.state = GuestState.RUNNING
        self.journal.skip(now.epoch_s)
        self.changed()

    def print_until(self, now: Moment) -> None:
        """Let it print what it has to say until now."""
        if self.state is GuestState.RUNNING:
            self.journal.catch_up(now.epoch_s)

    def advance(self, now: Moment) -> None:
        """Let it live until now under its present limits."""
        if self._load is None:
            return
        is_paused = self.state is GuestState.PAUSED
        self._load.advance(
            now.monotonic_s, self.limits, is_paused=is_paused, memory_total_bytes=self.memory_total_bytes
        )
        if self._load.oom_kills != self._oom_kills:
            self._oom_kills = self._load.oom_kills
            self.changed()

    def sample(self, now: Moment) -> Sample | None:
        """Return its counters; None if it is not live."""
        self.advance(now)
        if self._load is None:
            return None
        return self._load.sample(self.limits, self.kind, self.memory_total_bytes)

    def processes(self, now: Moment) -> list[GuestProcess]:
        """Return its processes; none if it is not live."""
        sample = self.sample(now)
        if sample is None or self.pid is None:
            return []
        count = max(1, sample.pids or 1)
        cpu_s, memory = (sample.cpu_usage_ns or 0) / 1e9, sample.memory_bytes or 0
        return [
            GuestProcess(
                pid=self.pid + number,
                guest_pid=number + 1,
                user="root" if number == 0 else "www-data",
                command=self.command if number == 0 else f"{self.image}: worker {number}",
                state="R" if number == count - 1 and self.state is GuestState.RUNNING else "S",
                cpu_time_s=cpu_s / count,
                rss_bytes=memory // count,
            )
            for number in range(count)
        ]

    def inspect(self) -> dict[str, Any]:
        """Return all that is known of it, as JSON types."""
        return {
            "id": self.ref.id,
            "name": self.name,
            "backend": self.ref.backend,
            "kind": self.kind.value,
            "simulated": True,
            "image": self.image,
            "created": self.created_s,
            "state": {
                "status": self.state.value,
                "pid": self.pid,
                "started": self.started_s,
                "exit_code": self.exit_code,
                "oom_kills": self._oom_kills,
                "note": self.note,
            },
            "restart_policy": str(self.restart_policy),
            "networks": list(self.networks),
            "ports": list(self.ports),
            "limits": {**asdict(self.limits), "io_devices": [asdict(entry) for entry in self.limits.io_devices]},
            "snapshots": [asdict(snapshot) for snapshot in self.snapshots.all()],
        }
