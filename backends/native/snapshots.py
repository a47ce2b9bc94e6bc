"""Snapshots of a container's file system: lists of layers that never change.

::

    STATE/containers/ID/snapshots/NAME/   snapshot.json: created_s, parent, layers (top first), own (its own layer,
                                          empty where nothing had changed since the one before)

Of a container that does not live its writable layer becomes read-only (stacking.py); of one that lives, a copy does,
since the layer under a mounted overlay must stay where it is. Most of it is copied before the container is frozen
(layers/replica.py), and where the file system can share blocks (btrfs, xfs) a copy costs none. Layers are shared with
clones and templates, so they are kept by saved_layers.py.

Earlier versions kept a copy in NAME/upper; it becomes a layer when it is first used.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.errors import AlreadyExists, Damaged, InnkeeperError, NotFound
from backends.kernel.mapped_overlay import Owners
from backends.kernel.mounts import MOST_LAYERS
from backends.kernel.trees import remove_tree
from backends.model import Snapshot
from backends.native.layers.replicating import LayerCopy
from backends.native.owners import owners_in
from backends.native.record import ContainerRecord
from backends.native.saved_layers import SavedLayers
from backends.native.spec import check_name
from backends.native.stacking import (
    SNAPSHOT_FILE,
    ReplaceLayers,
    StackLayer,
    forget_old,
    is_empty,
    settle_safely,
)
from backends.native.store import CONFIG, RECORD, new_id, read_file, write_file
from backends.trace import Recorder


class Snapshots:
    """The snapshots of one container, whose folder this is."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._container = folder, name
        self._snapshots = folder / "snapshots"
        self._saved = SavedLayers(folder.parents[1])

    def all(self, current: str | None) -> Sequence[Snapshot]:
        """Return all, parents before children; `current` is the one the container descends from."""
        whole = [path for path in self._snapshots.iterdir() if not path.name.startswith(".")]
        return sorted((self._read(path, current) for path in whole), key=lambda snapshot: snapshot.created_s)

    def check_new(self, name: str) -> None:
        """Raise AlreadyExists for a name that is taken, UsageError for one that is none."""
        if (self._snapshots / check_name(name)).exists():
            raise AlreadyExists(f"{self._container} has a snapshot {name} already")

    def copying(self) -> LayerCopy:
        """Return a copy in the making of what a live container writes, for the functions that save its files.

        The caller holds its lock. Raises InnkeeperError.
        """
        self.recover()
        self._check_room(self._record())
        return self._saved.copying(str(self._folder / "upper"), self._owners())

    def create(self, name: str, recorder: Recorder, copy: LayerCopy | None) -> Snapshot:
        """Save the container's present files. The caller holds its lock; if it lives it is frozen, and copied.

        Raises AlreadyExists.
        """
        self.recover()
        record = self._record()
        self.check_new(name)
        made = Snapshot(name=name, created_s=time.time(), parent=record.snapshot, is_current=True)
        described = {"name": name, "created_s": made.created_s, "parent": made.parent}
        self.save(replace(record, snapshot=name), recorder, copy, taken=described)
        return made

    def present_stack(self) -> list[str]:
        """Return the folders of the present files, top first; the first one is written to."""
        return [str(self._folder / "upper"), *self._record().layers]

    def present(self, recorder: Recorder, copy: LayerCopy | None) -> tuple[list[str], Path | None]:
        """Return the layers of the present files, as save() does, without a snapshot."""
        self.recover()
        return self.save(self._record(), recorder, copy)

    def save(
        self, record: ContainerRecord, recorder: Recorder, copy: LayerCopy | None, taken: dict[str, Any] | None = None
    ) -> tuple[list[str], Path | None]:
        """Return the layers of the present files, none of which changes any more, and write the record.

        taken is put on record as a snapshot with them. The second value is the draft of a layer that is a copy: without
        a snapshot the caller makes a layer of it (SavedLayers.keep) and a list that names it.
        """
        upper = self._folder / "upper"
        if is_empty(upper, record.layers[0]):
            self._write(record, taken, record.layers, "")
            return record.layers, None
        self._check_room(record)
        if copy is not None:
            draft = copy.finish(recorder)
            if taken is None:
                return record.layers, draft
            with self._saved.using():
                layer = self._saved.keep(draft)
                self._write(record, taken, [layer, *record.layers], layer)
            return [layer, *record.layers], None
        with self._saved.using():
            layer = self._saved.reserve(self._owners())
            layers = [layer, *record.layers]
            described = None if taken is None else taken | {"layers": layers, "own": layer}
            recorder.run(StackLayer(self._folder, replace(record, layers=layers), described))
        return layers, None

    def _write(self, record: ContainerRecord, taken: dict[str, Any] | None, layers: list[str], own: str) -> None:
        if taken is None:
            return
        draft = self._snapshots / f".{taken['name']}.{new_id()}"
        draft.mkdir(mode=0o700)
        try:
            write_file(draft / SNAPSHOT_FILE, json.dumps(taken | {"layers": layers, "own": own}))
            draft.rename(self._snapshots / taken["name"])
        finally:
            remove_tree(draft, ignore_errors=True)
        write_file(self._folder / RECORD, record.to_json())

    def restore(self, name: str, recorder: Recorder) -> None:
        """Go back to a snapshot's files. The caller holds the lock of the container, which does not live.

        What it had written since is only put aside: forget_old() deletes it. Raises NotFound.
        """
        self.recover()
        with self._saved.using():
            layers = self.layers(name)
            recorder.run(ReplaceLayers(self._folder, replace(self._record(), layers=layers, snapshot=name)))

    def layers(self, name: str) -> list[str]:
        """Return the layers of a snapshot, top first. The caller holds its lock. Raises NotFound, Damaged."""
        path = self._existing(name)
        described = _described(path)
        layers = described.get("layers")
        if not layers:
            if not (path / "upper").exists():
                hint = f"mend {path / SNAPSHOT_FILE}, or remove it: inn snapshot rm {self._container} {name}"
                raise Damaged(f"snapshot {name} of {self._container} does not say what its layers are", hint=hint)
            # All layers below its copy are the image's: versions that copied stacked none.
            base = [layer for layer in self._record().layers if not self._saved.holds(layer)]
            with self._saved.using():
                own = self._saved.reserve(self._owners())
                layers = [own, *base]
                write_file(path / SNAPSHOT_FILE, json.dumps({**described, "layers": layers, "own": own}))
        if (path / "upper").exists():
            os.rename(path / "upper", layers[0])
        return [str(layer) for layer in layers]

    def forget_old(self) -> None:
        """Delete what restores have put aside."""
        forget_old(self._folder)
        self._saved.collect()

    def remove(self, name: str) -> None:
        """Remove one; those made after it stay whole, and get its parent. Raises NotFound."""
        path = self._existing(name)
        parent = self._read(path, None).parent
        for other in self._snapshots.iterdir():
            described = _described(other)
            if described.get("parent") == name:
                write_file(other / SNAPSHOT_FILE, json.dumps(described | {"parent": parent}))
        grave = self._snapshots / f".{name}.{new_id()}"
        path.rename(grave)
        remove_tree(grave)

    def collect(self) -> None:
        """Remove the layers that nobody needs any more."""
        self._saved.collect()

    def parent_of(self, name: str) -> str | None:
        """Return the name of a snapshot's parent. Raises NotFound."""
        return self._read(self._existing(name), None).parent

    def recover(self) -> None:
        """Finish what a crash cut short. The caller holds the container's lock."""
        settle_safely(self._saved, self._folder)

    def _check_room(self, record: ContainerRecord) -> None:
        if len(record.layers) >= MOST_LAYERS:
            text = f"cannot save {self._container}: it has {len(record.layers)} layers, and no overlay can have more"
            raise InnkeeperError(text, hint=f"make an image of it: inn commit {self._container} NAME")

    def _owners(self) -> Owners | None:
        return owners_in(json.loads(read_file(str(self._folder / CONFIG))))

    def _record(self) -> ContainerRecord:
        return ContainerRecord.from_json(read_file(str(self._folder / RECORD)))

    def _existing(self, name: str) -> Path:
        path = self._snapshots / check_name(name)
        if not path.exists():
            raise NotFound(f"{self._container} has no snapshot {name}", hint=f"see: inn snapshot ls {self._container}")
        return path

    def _read(self, path: Path, current: str | None) -> Snapshot:
        described = _described(path)
        parent, own = described.get("parent"), described.get("own")
        size = described.get("size_bytes") if own is None else 0
        if own:
            size = self._saved.size(str(own))  # None while that takes too long
        return Snapshot(
            name=path.name,
            created_s=float(str(described.get("created_s", 0))),
            parent=str(parent) if parent else None,
            is_current=path.name == current,
            size_bytes=int(str(size)) if size is not None else None,
        )


def _described(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((path / SNAPSHOT_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found
