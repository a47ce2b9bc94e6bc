"""What a container has changed: as layers of an image, and as a list of paths."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends.errors import NotFound, Unsupported, UsageError
from backends.image import CommitOptions, FileChange
from backends.kernel.mapped_overlay import Owners
from backends.native.build import stubs
from backends.native.build.changes import changes_of
from backends.native.build.pack import PackedLayer, pack
from backends.native.comparing import differences
from backends.native.images import host
from backends.native.images.config import time_text
from backends.native.images.store import ImageStore
from backends.native.images.stored import StoredImage
from backends.native.record import ContainerRecord
from backends.native.saved_layers import SavedLayers
from backends.native.store import ContainerStore
from backends.trace import Recorder


@dataclass(frozen=True, slots=True)
class _Layers:
    """The layers of a container that its image does not have, top first, and those below them."""

    own: tuple[str, ...]
    image: tuple[str, ...]

    @classmethod
    def of(cls, store: ContainerStore, container_id: str, record: ContainerRecord, image: Sequence[str]) -> _Layers:
        found = [str(store.folder(container_id) / "upper"), *record.layers]
        count = len(image)
        if count and found[-count:] == list(image):
            return cls(tuple(found[:-count]), tuple(image))
        return cls(tuple(found[:1]), tuple(found[1:]))

    def below(self, layer: str) -> tuple[str, ...]:
        everything = (*self.own, *self.image)
        return everything[everything.index(layer) + 1 :]


class Commit:
    """One commit."""

    def __init__(self, store: ContainerStore, images: ImageStore, container_id: str, options: CommitOptions) -> None:
        self._store, self._images, self._id, self._options = store, images, container_id, options
        self._record = store.record(container_id)
        self._base = self._image()
        config = self._base.config.raw.get("config") or {}
        self._changes, self._written = changes_of(options.changes, config)
        self._layers = _Layers.of(store, container_id, self._record, images.stack(self._base))

    def _image(self) -> StoredImage:
        name = self._record.image_id or self._record.image
        if name == host.NAME:
            text = f"cannot commit {self._record.name}: it is of the image host, this machine's own programs"
            raise Unsupported(text, hint="make it from another image, or export its files: inn cp")
        try:
            return self._images.resolve(name)
        except NotFound:
            hint = "fetch or load it again"
            raise NotFound(f"cannot commit {self._record.name}: its image is gone", hint=hint) from None

    def pack(self, recorder: Recorder) -> list[PackedLayer]:
        """Return the container's own layers as blobs, lowest first; those without files are left out."""

        def tell(done: int) -> None:
            recorder.check()

        found, config = [], self._store.config(self._id)
        owners = _owners(self._store, self._id, self._record, config)
        for layer in reversed(self._layers.own):
            hidden = stubs.stubs(layer, self._layers.below(layer), config, owners)
            if all(f"/{name}" in hidden for name in os.listdir(layer)):
                continue
            with self._images.blobs.ingest() as ingest:
                found.append(pack(layer, ingest, tell, hidden, owners.get(layer)))
        return found

    def keep(self, layers: Sequence[PackedLayer], names: Sequence[str]) -> StoredImage:
        """Make the image and return it."""
        options = self._options
        text = "; ".join(self._written) or " ".join(self._store.config(self._id)["process"]["args"])
        history = {"created": time_text(time.time()), "created_by": text, "comment": options.message,
                   "author": options.author}  # fmt: skip
        history = {key: value for key, value in history.items() if value}
        steps: list[PackedLayer | None] = list(layers) or [None]
        image = self._base
        for number, layer in enumerate(steps, 1):
            is_last = number == len(steps)
            image = self._images.add_layer_image(
                image, layer, self._changes if is_last else {}, history, names if is_last else ()
            )
        return image


def changes_of_container(store: ContainerStore, images: ImageStore, container_id: str) -> list[FileChange]:
    """Return what differs between a container's files and its image, by path. Raises NotFound."""
    record = store.record(container_id)
    lowers: Sequence[str] = ()
    if record.image_id and record.image_id != host.NAME:
        try:
            lowers = images.stack(images.resolve(record.image_id))
        except (NotFound, UsageError):
            lowers = ()
    layers = _Layers.of(store, container_id, record, lowers)
    config = store.config(container_id)
    owners = _owners(store, container_id, record, config)
    hidden = {path for layer in layers.own for path in stubs.stubs(layer, layers.below(layer), config, owners)}
    found = differences(layers.image, (*layers.own, *layers.image), owners)
    return sorted((change for change in found if change.path not in hidden), key=lambda change: change.path)


def _owners(
    store: ContainerStore, container_id: str, record: ContainerRecord, config: Mapping[str, Any]
) -> dict[str, Owners]:
    return SavedLayers(store.state_dir).owners_of(store.folder(container_id), record.layers, config)
