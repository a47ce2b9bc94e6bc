"""The verbs on images: importing, removing, naming, loading, saving, pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from backends.errors import NotFound
from backends.image import Image, ImageLayer, Pruned, PruneOptions
from backends.native.core import NativeCore
from backends.native.images import collecting, host, listing
from backends.trace import Recorder

_PATIENCE_S = 10.0


class Imaging(NativeCore):
    """Keeps images."""

    def images(self) -> Sequence[Image]:
        """Return all images, one that has several names once for each."""
        return listing.images(self._images, self._image_users())

    def _image_users(self) -> dict[str, list[str]]:
        """Return names of containers by the id of the image that they were made from."""
        found: dict[str, list[str]] = {}
        for container_id in self._store.ids():
            try:
                record = self._store.record(container_id)
            except NotFound:
                continue
            found.setdefault(record.image_id or self._id_of(record.image), []).append(record.name)
        return found

    def _id_of(self, name: str) -> str:
        """Containers of earlier versions know their image by its name only."""
        if name == host.NAME:
            return host.NAME
        try:
            return self._images.resolve(name).id
        except NotFound:
            return name

    def image_import(self, name: str, source: str | BinaryIO, recorder: Recorder) -> Image:
        """Make an image of a root file system."""
        from backends.native.images.importing import import_image

        return import_image(self._images, name, source, recorder)

    def image_remove(self, name: str, recorder: Recorder, *, force: bool = False) -> None:
        """Take a name from an image, and remove it with its last one if no container uses it."""
        with self._store.making(alone=True, timeout_s=_PATIENCE_S):
            collecting.Collector(self._images, self._image_users()).remove(name, force=force)

    def image_inspect(self, name: str) -> Mapping[str, Any]:
        """Return all that is known of an image."""
        return listing.inspect(self._images, name, self._image_users())

    def image_history(self, name: str) -> Sequence[ImageLayer]:
        """Return how an image was made, oldest step first."""
        if name == host.NAME:
            return [ImageLayer("the programs of this machine")]
        return listing.history(self._images, self._images.resolve(name))

    def image_tag(self, name: str, new_name: str, recorder: Recorder) -> None:
        """Give an image a further name."""
        self._images.tag(name, new_name)

    def image_load(self, source: str | BinaryIO, recorder: Recorder) -> Sequence[Image]:
        """Take images from an archive or a folder."""
        from backends.native.images.loading import load

        return load(self._images, source, recorder)

    def image_save(self, names: Sequence[str], target: BinaryIO, recorder: Recorder, *, format: str = "docker") -> None:
        """Write images as one archive."""
        from backends.native.images.saving import save

        save(self._images, names, target, recorder, format)

    def image_prune(self, options: PruneOptions, recorder: Recorder, *, dry_run: bool = False) -> Pruned:
        """Remove what nobody uses."""
        with self._store.making(alone=True, timeout_s=_PATIENCE_S):
            return collecting.Collector(self._images, self._image_users()).prune(options, dry_run=dry_run)
