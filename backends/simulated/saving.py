"""Snapshots, logs and processes of simulated guests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from backends.model import GuestKind, GuestProcess, GuestRef, LogLine, Snapshot
from backends.simulated.core import SimulatedCore
from backends.trace import Recorder

FOLLOW_STEP_S = 0.2


class SavingVerbs(SimulatedCore):
    """Snapshotting, Logging, LogClearing, Processes."""

    def snapshots(self, ref: GuestRef) -> Sequence[Snapshot]:
        """Return a guest's snapshots."""
        with self._call("snapshots"):
            return self._world.get(ref).snapshots.all()

    def snapshot_create(self, ref: GuestRef, name: str, recorder: Recorder) -> Snapshot:
        """Save a guest's state."""
        with self._verb("snapshot_create", ref) as machine:
            sample = machine.sample(self._world.now())
            size_bytes = (sample.memory_bytes or 0) if sample is not None else 0
            with_memory = machine.kind is GuestKind.VM and machine.state.is_live
            created_s = self._world.now().epoch_s
            save = partial(machine.snapshots.create, name, created_s, size_bytes, with_memory=with_memory)
            snapshot: Snapshot = self._do(machine, recorder, "snapshot", f"save {machine.name} as {name}", save)
            return snapshot

    def snapshot_restore(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Take a guest back; a live one is stopped and started for it."""
        with self._verb("snapshot_restore", ref) as machine:
            machine.snapshots.get(name)
            was_live = machine.state.is_live
            if was_live:
                end = partial(machine.end, self._world.now(), 0, "")
                self._do(machine, recorder, "stop", f"stop {machine.name}", end)
            back = f"take {machine.name} back to {name}"
            self._do(machine, recorder, "snapshot", back, partial(machine.snapshots.restore, name))
            if was_live:
                self._do(machine, recorder, "start", f"start {machine.name}", partial(self._world.start, machine))

    def snapshot_remove(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Remove a snapshot."""
        with self._verb("snapshot_remove", ref) as machine:
            text = f"remove snapshot {name} of {machine.name}"
            self._do(machine, recorder, "snapshot", text, partial(machine.snapshots.remove, name))

    def logs(
        self, ref: GuestRef, *, follow: bool = False, tail: int | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[LogLine]:
        """Yield what a guest printed."""
        with self._call("logs"):
            machine = self._world.get(ref)
            machine.print_until(self._world.now())
            lines, number = machine.journal.since(0), machine.journal.written
        yield from lines if tail is None else lines[max(0, len(lines) - tail) :]
        while follow and not stop():
            with self._call("logs"):
                machine.print_until(self._world.now())
                lines, number = machine.journal.since(number), machine.journal.written
                is_over = not machine.state.is_live
                if not lines and not is_over:
                    self._world.changed.wait(FOLLOW_STEP_S)
            yield from lines
            if is_over:
                return

    def clear_log(self, ref: GuestRef, recorder: Recorder) -> None:
        """Forget what a guest has printed so far."""
        with self._verb("clear_log", ref) as machine:
            machine.print_until(self._world.now())
            self._do(machine, recorder, "log", f"clear the log of {machine.name}", machine.journal.clear)

    def processes(self, ref: GuestRef) -> Sequence[GuestProcess]:
        """Return a live guest's processes."""
        with self._call("processes"):
            return self._world.get(ref).processes(self._world.now())
