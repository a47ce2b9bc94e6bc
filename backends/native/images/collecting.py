"""Removing images, and what no image, container, snapshot or template needs.

The index is changed first, then layers and blobs go: a crash between leaves what the next prune or clean removes.
All of it is done alone: nobody makes a container (ContainerStore.making) or adds to the store (Blobs.collecting).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backends.errors import Busy, InnkeeperError, WrongState
from backends.image import Pruned, PruneOptions
from backends.native.build import caches
from backends.native.images import host, layout
from backends.native.images.layout import Entry
from backends.native.images.reference import Reference
from backends.native.images.rootfs import size_of
from backends.native.images.store import ImageStore
from backends.native.images.stored import StoredImage
from backends.native.layers_in_use import layers_in_use

_FORMER = "image.json"
"""In the folder of an image of earlier versions, which kept each as a folder of its own."""


@dataclass(slots=True)
class Collector:
    """Removes images of one store."""

    store: ImageStore
    users: Mapping[str, Sequence[str]]
    """Names of guests, by the id of the image that they were made from."""

    def remove(self, name: str, *, force: bool = False) -> None:
        """Take a name from an image, and remove it with its last one. Raises Busy, NotFound, WrongState."""
        if name == host.NAME:
            self._refuse_if_used(name, host.NAME)
            shutil.rmtree(self.store.folder / host.NAME, ignore_errors=True)
            return
        with self.store.blobs.collecting():
            if self._remove_damaged(name):
                return
            image = self.store.resolve(name)
            gone = self._names_to_take(image, name, force=force)
            is_last = set(gone) == set(image.names)
            if is_last and not force:
                self._refuse_if_used(name, image.id)
            is_kept = is_last and bool(self.users.get(image.id))
            with self.store.layout.changing() as entries:
                ours = [entry for entry in entries if entry.manifest.digest == image.digest and not entry.cache_key]
                entries[:] = [entry for entry in entries if entry not in ours or entry.name not in (*gone, "")]
                if is_kept:  # those made from it still need it; it goes with the next prune after them
                    layout.keep(entries, Entry(image.descriptor))
            if is_last and not is_kept:
                self._remove_parts([image])

    def _remove_damaged(self, name: str) -> bool:
        damaged = [entry for entry, _ in self.store.damaged()]
        found = [entry for entry in damaged if name in (entry.name, entry.manifest.digest)]
        if found:
            with self.store.layout.changing() as entries:
                entries[:] = [entry for entry in entries if entry not in found]
        return bool(found)

    def _refuse_if_used(self, name: str, image_id: str) -> None:
        if users := self.users.get(image_id):
            text = f"cannot remove image {name}: used by {', '.join(users[:5])}"
            raise Busy(text, hint="remove those containers first")

    def _names_to_take(self, image: StoredImage, name: str, *, force: bool) -> list[str]:
        """Return the names that go: the one given; all of them by force, or where an id was given and there is one."""
        if force:
            return list(image.names)
        try:
            wanted = Reference.parse(name)
        except InnkeeperError:
            wanted = None
        if wanted is not None and str(wanted) in image.names:
            return [str(wanted)]
        if len({Reference.parse(each).name for each in image.names}) > 1:
            text = f"cannot remove image {name}: it has the names {', '.join(image.names[:5])}"
            raise WrongState(text, hint=f"remove them by name, or all: inn image rm -f {name}")
        return list(image.names)

    def _remove_parts(self, gone: Sequence[StoredImage]) -> tuple[int, int, int]:
        """Remove layers and blobs of images that are in the index no more; returns counts and bytes."""
        chains = {chain_id for image in gone for _, _, chain_id in image.layers}
        digests = {digest for image in gone for digest in image.blobs}
        return self._sweep(chains, digests)

    def _sweep(self, chains: set[str] | None, digests: set[str] | None) -> tuple[int, int, int]:
        """Remove what nobody needs, of some layers and blobs or of all; returns counts and bytes on disk."""
        kept = self.store.everything()
        layers = self._free_layers(kept, chains)
        freed = sum(self._layer_bytes(chain_id) for chain_id in layers)
        if chains is None:  # also what crashes left, which is no layer
            self.store.layers.keep_only(set(self.store.layers.all()) - set(layers))
        else:
            for chain_id in layers:
                self.store.layers.remove(chain_id)
        blobs = self._free_blobs(kept, digests)
        freed += sum(self.store.blobs.remove(digest) for digest in blobs)
        return len(layers), len(blobs), freed

    def _free_layers(self, kept: Sequence[StoredImage], among: set[str] | None = None) -> list[str]:
        needed = {chain_id for image in kept for _, _, chain_id in image.layers}
        folders = {os.path.realpath(folder) for folder in layers_in_use(self.store.state_dir)}
        return [
            chain_id
            for chain_id in self.store.layers.all()
            if (among is None or chain_id in among)
            and chain_id not in needed
            and os.path.realpath(self.store.layers.folder(chain_id)) not in folders
        ]

    def _free_blobs(self, kept: Sequence[StoredImage], among: set[str] | None = None) -> list[str]:
        needed = {digest for image in kept for digest in image.blobs}
        return [d for d in self.store.blobs.digests() if (among is None or d in among) and d not in needed]

    def _layer_bytes(self, chain_id: str) -> int:
        try:
            return self.store.layers.size(chain_id)
        except InnkeeperError:
            return 0

    def prune(self, options: PruneOptions, *, dry_run: bool) -> Pruned:
        """Remove images that nobody uses, and what no image has; with dry_run only say what that would be."""
        with self.store.blobs.collecting():
            gone = [image for image in self.store.stored() if self._is_to_go(image, options)]
            digests = {image.digest for image in gone}

            def goes(entry: Entry) -> bool:
                return options.build_cache if entry.cache_key else entry.manifest.digest in digests

            def with_caches(found: Pruned, count: Callable[[Path], tuple[int, int]]) -> Pruned:
                number, size = count(self.store.state_dir) if options.build_cache else (0, 0)
                return replace(found, caches=number, freed_bytes=found.freed_bytes + size)

            names = tuple(name for image in gone for name in image.names or (image.name,))
            if dry_run:
                kept = [entry for entry in self.store.layout.entries() if not goes(entry)]
                return with_caches(self._would_free(names, kept), caches.size)
            with self.store.layout.changing() as entries:
                entries[:] = [entry for entry in entries if not goes(entry)]
            layers, blobs, freed = self._sweep(None, None)
            freed += self._remove_leftovers(also_resumable=True)
            return with_caches(Pruned(names, layers, blobs, freed), caches.remove)

    def _would_free(self, names: tuple[str, ...], kept: Sequence[Entry]) -> Pruned:
        images = self.store.readable(kept)
        layers, blobs = self._free_layers(images), self._free_blobs(images)
        freed = sum(self._layer_bytes(chain_id) for chain_id in layers)
        freed += sum(self.store.blobs.path(digest).stat().st_blocks * 512 for digest in blobs)
        freed += sum(path.stat().st_blocks * 512 for path in self.store.blobs.partials(also_resumable=True))
        return Pruned(names, len(layers), len(blobs), freed)

    def _is_to_go(self, image: StoredImage, options: PruneOptions) -> bool:
        return not self.users.get(image.id) and (options.all or not image.names)

    def _remove_leftovers(self, *, also_resumable: bool) -> int:
        freed = 0
        for path in self.store.blobs.partials(also_resumable=also_resumable):
            freed += path.stat().st_blocks * 512
            path.unlink(missing_ok=True)
        return freed

    def clean(self, timeout_s: float) -> Iterator[str]:
        """Remove what crashes left behind; yields a line for each thing. Only while nobody makes anything.

        Raises Busy if somebody adds images for longer than that.
        """
        with self.store.blobs.collecting(timeout_s):
            for path in self.store.blobs.partials():
                path.unlink(missing_ok=True)
                yield f"blob {path.name}: half taken in"
            for entry, error in self.store.damaged():
                with self.store.layout.changing() as entries:
                    entries[:] = [each for each in entries if each != entry]
                yield f"image {entry.name or entry.manifest.digest}: it was damaged ({error.message})"
            layers, blobs, _ = self._sweep(None, None)
            if layers or blobs:
                yield f"images: {layers} layers and {blobs} blobs that belong to no image"
            yield from self._former()

    def _former(self) -> Iterator[str]:
        """Images of earlier versions stay as long as containers are made of them, and are otherwise of no use."""
        folders = layers_in_use(self.store.state_dir)
        for folder in _folders(self.store.folder):
            if (folder / _FORMER).exists() and str(folder / "layer") not in folders:
                freed = size_of(folder)
                shutil.rmtree(folder, ignore_errors=True)
                yield f"image {folder.name} of an earlier version ({freed} bytes): import it again"


def _folders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    except FileNotFoundError:
        return []
