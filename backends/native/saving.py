"""Snapshots of containers: of those that do not live at once, of those that run frozen meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace

from backends.errors import Busy, InnkeeperError, WrongState
from backends.image import FileChange
from backends.model import (
    GuestRef,
    GuestState,
    Snapshot,
)
from backends.native.core import KEPT
from backends.native.layers.replicating import LayerCopy
from backends.native.living import Living
from backends.native.saved_layers import SavedLayers
from backends.native.snapshots import Snapshots
from backends.native.tracing import recorded
from backends.trace import Recorder


class Saving(Living):
    """Takes, restores and removes snapshots."""

    def snapshots(self, ref: GuestRef) -> Sequence[Snapshot]:
        """Return its snapshots."""
        record = self._store.record(ref.id)
        return Snapshots(self._store.folder(ref.id), record.name).all(record.snapshot)

    def snapshot_create(self, ref: GuestRef, name: str, recorder: Recorder) -> Snapshot:
        """Save its files: at once, or of a live container by a copy, for whose end a running one is frozen."""
        keep = Recorder("client", self._keeper(ref, recorder))
        with self._store.locked(ref.id), self._store.making():
            Snapshots(self._store.folder(ref.id), self._store.record(ref.id).name).check_new(name)
            with self._copied_still(ref, recorder, keep) as (snapshots, copy):
                return snapshots.create(name, keep, copy)

    @contextmanager
    def _copied_still(
        self, ref: GuestRef, recorder: Recorder, keep: Recorder
    ) -> Iterator[tuple[Snapshots, LayerCopy | None]]:
        """Give the same as _kept_still(), and of a container that lives a copy that has only to be finished."""
        self._clean_if_lost(ref)
        guest = self._guest(ref)
        with ExitStack() as stack:
            copy = None
            if guest.state in KEPT:
                copy = stack.enter_context(Snapshots(self._store.folder(ref.id), guest.name).copying())
            if copy is not None and guest.state == GuestState.RUNNING:
                copy.follow(keep)
            snapshots, is_live = stack.enter_context(self._kept_still(ref, recorder))
            yield snapshots, copy if is_live else None

    @contextmanager
    def _kept_still(self, ref: GuestRef, recorder: Recorder) -> Iterator[tuple[Snapshots, bool]]:
        """Give the snapshots of a container whose files nobody changes meanwhile, and say whether it lives.

        The caller holds its lock, so that nobody starts it.
        """
        self._clean_if_lost(ref)
        guest = self._guest(ref)
        snapshots = Snapshots(self._store.folder(ref.id), guest.name)
        if guest.state not in KEPT:
            self._wait_for_supervisor(ref)
            if self._store.is_supervised(ref.id):
                raise Busy(f"cannot save {guest.name}: it is just being started or ended", hint="try again")
        with self._held_still(ref, recorder) if guest.state == GuestState.RUNNING else nullcontext():
            yield snapshots, guest.state in KEPT

    @contextmanager
    def _held_still(self, ref: GuestRef, recorder: Recorder) -> Iterator[None]:
        """Keep a container frozen while the body runs; its supervisor thaws it also if we are killed meanwhile."""
        group, file = self._group(ref.id).path, self._freeze_file(ref)
        supervisor, trace = self._supervisor(ref), self._trace_path(ref)
        with supervisor.connect() as sock:
            with recorded(recorder, trace, "freeze", f"freeze {group}", f"echo 1 > {file}"):
                supervisor.exchange(sock, {"op": "pause", "hold": True})
            try:
                yield
            finally:
                with suppress(WrongState), recorded(recorder, trace, "freeze", f"thaw {group}", f"echo 0 > {file}"):
                    supervisor.exchange(sock, {"op": "resume"})

    def snapshot_diff(self, ref: GuestRef, name: str, other: str | None = None) -> Sequence[FileChange]:
        """Return what another snapshot, or the present state, has otherwise than a snapshot."""
        try:
            with self._store.locked(ref.id), SavedLayers(self._store.state_dir).using():
                if other is None:
                    with self._kept_still(ref, Recorder("client")) as (snapshots, _):
                        snapshots.recover()
                        return self._compared(ref, snapshots.layers(name), snapshots.present_stack())
                snapshots = Snapshots(self._store.folder(ref.id), self._store.record(ref.id).name)
                snapshots.recover()
                return self._compared(ref, snapshots.layers(name), snapshots.layers(other))
        except RecursionError:
            raise InnkeeperError(f"cannot compare {name}: folders in it are too deep") from None

    def _compared(self, ref: GuestRef, before: Sequence[str], after: Sequence[str]) -> Sequence[FileChange]:
        """Return the differences without what is there only because something is mounted on it."""
        from backends.native.build.stubs import stubs  # which only this needs
        from backends.native.comparing import differences

        config = self._store.config(ref.id)
        saved = SavedLayers(self._store.state_dir)
        owners = saved.owners_of(self._store.folder(ref.id), (*before, *after), config)
        hidden = {
            path
            for stack, others in ((before, after), (after, before))
            for number, layer in enumerate(stack)
            if layer not in others
            for path in stubs(layer, stack[number + 1 :], config, owners)
        }
        found = differences(before, after, owners)
        kept = [change.path for change in found if change.path not in hidden]
        # A folder that is a stub in one layer can hold a real change of another.
        above = {parent for path in kept for parent in itertools.accumulate(path.split("/"), "{}/{}".format)}
        return [change for change in found if change.path not in hidden or change.path in above]

    def snapshot_restore(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Put a snapshot in place; a live container is stopped for it and started again."""
        record = self._store.record(ref.id)
        snapshots = Snapshots(self._store.folder(ref.id), record.name)
        snapshots.parent_of(name)  # before anything is stopped: it must exist
        was_live = self._guest(ref).state in KEPT
        if was_live:
            self.stop(ref, recorder)
        with self._store.locked(ref.id):
            self._clean_if_lost(ref)
            self._wait_for_supervisor(ref)
            snapshots.restore(name, Recorder("client", self._keeper(ref, recorder)))
        if was_live:
            self.start(ref, recorder)
        snapshots.forget_old()  # which can take long, and nobody waits for it

    def snapshot_remove(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Remove a snapshot."""
        with self._store.locked(ref.id):
            snapshots = Snapshots(self._store.folder(ref.id), self._store.record(ref.id).name)
            snapshots.recover()
            record = self._store.record(ref.id)
            parent = snapshots.parent_of(name)
            snapshots.remove(name)
            if record.snapshot == name:
                self._store.write_record(replace(record, snapshot=parent))
        snapshots.collect()
