"""Changes to the stack of layers that a stopped container has, each of which is done whole or not at all.

::

    STATE/containers/ID/pending.json   a change that is decided on: the new layers, what becomes of the upper one, and
                                       the snapshot that is taken with it
    STATE/containers/ID/upper/         what the container writes; .upper.* is one that is put aside to be deleted

A change is one file, replaced by rename; before it is there nothing has changed, and once it is there whoever comes
next (a start, another change, `inn clean`) carries it out. All steps can be done again. None looks at the files of a
layer, so a change takes the same time however many there are.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.errors import Damaged
from backends.kernel.mounts import KernelStep
from backends.kernel.trees import remove_tree
from backends.native.layers_in_use import PENDING
from backends.native.record import ContainerRecord
from backends.native.saved_layers import SavedLayers
from backends.native.store import RECORD, new_id, read_file, write_file

SNAPSHOT_FILE = "snapshot.json"
_OURS = ("trusted.overlay.", "user.overlay.")


@dataclass(frozen=True, slots=True)
class StackLayer(KernelStep):
    """Make the writable layer a read-only one and put an empty one on top. The caller is in SavedLayers.using()."""

    folder: Path
    record: ContainerRecord
    """As it is to be: its first layer is the one that the upper layer becomes."""

    taken: Mapping[str, Any] | None = None
    """The snapshot that is taken with it: its name and what is to be in its file."""

    kind = "stack"

    def describe(self) -> str:
        return f"make {self.folder}/upper a read-only layer, {self.record.layers[0]}, below an empty one"

    def by_hand(self) -> str:
        return f"mv {self.folder}/upper {self.record.layers[0]} && mkdir {self.folder}/upper"

    def run(self) -> None:
        _decide(self.folder, self.record, {"layer": self.record.layers[0], "taken": self.taken})
        settle(self.folder)


@dataclass(frozen=True, slots=True)
class ReplaceLayers(KernelStep):
    """Stand on other layers, with an empty writable one. The caller is in SavedLayers.using()."""

    folder: Path
    record: ContainerRecord
    """As it is to be."""

    kind = "stack"

    def describe(self) -> str:
        many = "s" * (len(self.record.layers) > 1)
        below = f"{len(self.record.layers)} layer{many}"
        return f"put an empty layer on the snapshot's {below} in place of {self.folder}/upper"

    def by_hand(self) -> str:
        return f"rm -r {self.folder}/upper && mkdir {self.folder}/upper"

    def run(self) -> None:
        _decide(self.folder, self.record, {"aside": f".upper.{new_id()}"})
        settle(self.folder)


def _decide(folder: Path, record: ContainerRecord, what: Mapping[str, Any]) -> None:
    # Only what changes: others may write the record before this is carried out.
    changes = {"layers": record.layers, "snapshot": record.snapshot}
    write_file(folder / PENDING, json.dumps({"record": changes, **what}))


def settle(folder: Path) -> None:
    """Carry out a change that was decided on, if there is one. The caller holds the container's lock.

    What is put aside is left to forget_old(), since deleting it can take long. Raises Damaged.
    """
    path, upper = folder / PENDING, folder / "upper"
    try:
        pending = json.loads(read_file(str(path)))
        changes = {"layers": [str(layer) for layer in pending["record"]["layers"]]}
        changes["snapshot"] = pending["record"]["snapshot"]
        place = Path(pending.get("layer") or folder / pending["aside"])
    except FileNotFoundError:
        _undo_old_restore(folder)
        return
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        hint = f"look at {path.parent}, put the layers right, and delete that file"
        raise Damaged(f"container {folder.name}: {PENDING} is damaged: {error}", hint=hint) from error
    if not place.exists() and upper.exists():
        upper.rename(place)
    if not upper.exists():
        _make_upper(folder, Path(changes["layers"][0]))
    if taken := pending.get("taken"):
        snapshot = folder / "snapshots" / str(taken["name"])
        snapshot.mkdir(mode=0o700, exist_ok=True)
        write_file(snapshot / SNAPSHOT_FILE, json.dumps(taken))
    write_file(folder / RECORD, json.dumps(json.loads(read_file(str(folder / RECORD))) | changes))
    path.unlink()


def is_unsettled(folder: Path) -> bool:
    """Say whether there is something for settle() to do."""
    return (folder / PENDING).exists() or not (folder / "upper").exists()


def settle_safely(saved: SavedLayers, folder: Path) -> None:
    """Do the same, also for callers who are not in SavedLayers.using()."""
    if is_unsettled(folder):
        with saved.using():
            settle(folder)
    elif (folder / ".upper.old").exists():
        _undo_old_restore(folder)


def forget_old(folder: Path) -> None:
    """Delete writable layers that were put aside."""
    for name in os.listdir(folder):
        if name.startswith(".upper."):
            remove_tree(folder / name, ignore_errors=True)


def _undo_old_restore(folder: Path) -> None:
    """Finish what a crash of an earlier version left: the old layer is put back if there is no new one."""
    upper, old = folder / "upper", folder / ".upper.old"
    with suppress(FileNotFoundError):
        if upper.exists():
            remove_tree(old)
        else:
            old.rename(upper)


def is_empty(upper: Path, below: str) -> bool:
    """Say whether a writable layer changes nothing of what is below it."""
    with os.scandir(upper) as entries:
        if next(entries, None) is not None:
            return False
    try:
        return _attributes(upper) == _attributes(Path(below))
    except FileNotFoundError:
        return False


def _make_upper(folder: Path, below: Path) -> None:
    """Make an empty layer, with a work folder of its own: the kernel's scratch there belongs to one layer."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o755, exist_ok=True)
    draft = folder / f".new-upper.{new_id()}"
    draft.mkdir(mode=0o755)
    be_like(draft, below)
    draft.rename(folder / "upper")


def be_like(folder: Path, other: Path) -> None:
    """Give a folder the mode, owner, attributes and times of another: / inside is the topmost layer's."""
    mode, uid, gid, attributes = _attributes(other)
    found = os.stat(other)
    if (uid, gid) != (os.geteuid(), os.getegid()):
        os.chown(folder, uid, gid)
    for name, value in attributes:
        with suppress(OSError):  # one that only the kernel may set
            os.setxattr(folder, name, value)
    os.chmod(folder, mode)
    os.utime(folder, ns=(found.st_atime_ns, found.st_mtime_ns))


def _attributes(folder: Path) -> tuple[int, int, int, tuple[tuple[str, bytes], ...]]:
    found = os.stat(folder)
    try:
        names = sorted(name for name in os.listxattr(folder) if not name.startswith(_OURS))
    except OSError:  # a file system that has none
        names = []
    attributes = tuple((name, os.getxattr(folder, name)) for name in names)
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, attributes
