"""Layers that were writable once and are now read-only: what snapshots, clones and templates share.

::

    STATE/saved/ID/      fs/ (as the overlay wrote it) and meta.json: who wrote it, with which owners, how large it is
    STATE/saved/.ID/     half made or half removed
    STATE/saved/lock     shared while somebody makes a layer and the list that names it, exclusive while those that
                         no list names are removed (layers_in_use.py)

The kernel drops these locks with their holders, so a crash leaves at most a layer that the next collection removes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from backends.errors import Busy, Damaged
from backends.kernel.idmap import IdRange
from backends.kernel.mapped_overlay import Owners
from backends.kernel.trees import remove_tree
from backends.native.images.rootfs import size_of
from backends.native.layers.replicating import LayerCopy
from backends.native.layers_in_use import layers_in_use
from backends.native.owners import owners_in
from backends.native.store import held, new_id, read_file, write_file

FOLDER, CONTENT, _META = "saved", "fs", "meta.json"
_PATIENCE_S = 2.0
_LOOKS_S = 3.0


class SavedLayers:
    """The saved layers of one state folder."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir, self._folder = state_dir, state_dir / FOLDER

    def holds(self, layer: str) -> bool:
        """Say whether a layer is one of these."""
        return layer.startswith(f"{self._folder}/")

    @contextmanager
    def using(self) -> Iterator[None]:
        """Hold while a layer is here that no list names yet."""
        with self._locked(alone=False):
            yield

    def reserve(self, owners: Owners | None = None) -> str:
        """Return the path of a new layer whose content is to be put there. The caller is in using()."""
        folder = self._folder / new_id()
        folder.mkdir(mode=0o700)
        self._describe(folder, owners)
        return str(folder / CONTENT)

    def copying(self, source: str, owners: Owners | None) -> LayerCopy:
        """Return the copy of a layer in the making; what it finishes is a draft for keep()."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._folder / f".{new_id()}"
        draft.mkdir(mode=0o700)
        try:
            self._describe(draft, owners)
            return LayerCopy(source, draft, CONTENT)
        except BaseException:
            remove_tree(draft, ignore_errors=True)
            raise

    def keep(self, draft: Path) -> str:
        """Return the path of the layer that a draft becomes. The caller is in using()."""
        folder = draft.with_name(draft.name.removeprefix("."))
        draft.rename(folder)
        return str(folder / CONTENT)

    def owners(self, layers: Sequence[str]) -> dict[str, Owners]:
        """Return those layers that were written in a user namespace, with its users and groups."""
        found = {}
        for layer in filter(self.holds, layers):
            sides = self._meta(layer).get("owners")
            if sides:
                uids, gids = ([_range(entry) for entry in side] for side in sides)
                found[layer] = (tuple(uids), tuple(gids))
        return found

    def owners_of(self, folder: Path, layers: Sequence[str], config: Mapping[str, Any]) -> dict[str, Owners]:
        """Return the same for a container whose folder this is, its writable layer included."""
        found, own = self.owners(layers), owners_in(config)
        return found if own is None else found | {str(folder / "upper"): own}

    def size(self, layer: str) -> int | None:
        """Return the bytes on disk of a layer: looked up in all of it the first time it is asked for.

        None if that would take longer than one waits for a list.
        """
        meta = self._meta(layer)
        size = meta.get("size_bytes")
        if not isinstance(size, int):
            size = _size_of(layer, time.monotonic() + _LOOKS_S)
            if size is None:
                return None
            with suppress(OSError):
                write_file(Path(layer).parent / _META, json.dumps(meta | {"size_bytes": size}))
        return size

    def collect(self) -> list[str]:
        """Remove the layers that no list names; return the names of those removed.

        Does nothing while somebody makes one or a list is damaged: another collection follows some day.
        """
        graves = []
        try:
            with self._locked(alone=True, timeout_s=_PATIENCE_S):
                used = layers_in_use(self._state_dir)
                for folder in self._whole():
                    if str(folder / CONTENT) not in used:
                        grave = folder.with_name(f".{folder.name}")
                        folder.rename(grave)
                        graves.append(grave)
        except (Busy, Damaged):
            return []
        for grave in graves:
            remove_tree(grave, ignore_errors=True)
        return [grave.name.removeprefix(".") for grave in graves]

    def half_made(self) -> list[Path]:
        """Return what a crash left behind; true only while nobody is making anything."""
        return [path for path in self._children() if path.name.startswith(".")]

    def _whole(self) -> list[Path]:
        return [path for path in self._children() if not path.name.startswith(".") and path.name != "lock"]

    def _children(self) -> list[Path]:
        try:
            return [self._folder / name for name in os.listdir(self._folder)]
        except FileNotFoundError:
            return []

    def _describe(self, folder: Path, owners: Owners | None) -> None:
        write_file(folder / _META, json.dumps({"created_s": time.time(), "owners": owners}))

    def _meta(self, layer: str) -> dict[str, Any]:
        try:
            return dict(json.loads(read_file(f"{os.path.dirname(layer)}/{_META}")))
        except (OSError, ValueError, TypeError):
            return {}

    @contextmanager
    def _locked(self, *, alone: bool, timeout_s: float | None = None) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with held(self._folder / "lock", alone=alone, timeout_s=timeout_s, why="somebody is making a layer"):
            yield


class _TakesLongError(Exception):
    """There are more files than can be looked at in time."""


def _size_of(folder: str, deadline_s: float) -> int | None:
    """Return the bytes on disk of a tree; None if that is not known by then."""

    def check() -> None:
        if time.monotonic() > deadline_s:
            raise _TakesLongError

    try:
        return size_of(Path(folder), check)
    except _TakesLongError:
        return None


def _range(entry: Sequence[int]) -> IdRange:
    inside, outside, count = entry
    return inside, outside, count
