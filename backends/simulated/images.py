"""Keeping simulated images."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, BinaryIO

from backends.errors import AlreadyExists, NotFound, UsageError
from backends.image import Image, ImageLayer, Pruned, PruneOptions
from backends.simulated.act import Act
from backends.simulated.core import SimulatedCore
from backends.simulated.gallery import PLATFORM, Picture, whole_name
from backends.simulated.shelf import layer
from backends.trace import Recorder

MAGIC = "images of a simulated backend"


class ImageVerbs(SimulatedCore):
    """Images, ImageKeeping."""

    def images(self) -> Sequence[Image]:
        """Return all images."""
        with self._call("images"):
            return tuple(self._world.gallery.images())

    def image_import(self, name: str, source: str | BinaryIO, recorder: Recorder) -> Image:
        """Keep the name and size of a root file system as an image; its content is not kept."""
        with self._call("image_import"):
            if self._world.gallery.has(name):
                raise AlreadyExists(f"there is already an image {name!r}")
            image: Image = recorder.run(Act("image", f"import {name}", lambda: self._import(name, source)))
            return image

    def _import(self, name: str, source: str | BinaryIO) -> Image:
        size_bytes = _folder_size(source) if isinstance(source, str) else len(source.read())
        now_s = self._world.now().epoch_s
        gallery = self._world.gallery
        step = layer("# imported", size_bytes, now_s, name, now_s)
        return gallery.image(gallery.put(Picture((step,), now_s), [name]), whole_name(name))

    def image_remove(self, name: str, recorder: Recorder, *, force: bool = False) -> None:
        """Remove a name, and with the last one the image."""
        with self._call("image_remove"):
            self._world.gallery.find(name)
            act = Act("image", f"remove image {name}", lambda: self._world.gallery.remove(name, force=force))
            recorder.run(act)

    def image_inspect(self, name: str) -> Mapping[str, Any]:
        """Return all that is known of an image."""
        with self._call("image_inspect"):
            gallery = self._world.gallery
            picture = gallery.find(name)
            return {
                "id": picture.id,
                "names": gallery.names_of(picture),
                "digest": picture.digest,
                "created": picture.created_s,
                "platform": PLATFORM,
                "simulated": True,
                "config": dict(picture.config),
                "layers": [step.digest for step in picture.layers],
                "history": [asdict(step) for step in gallery.history(picture)],
            }

    def image_history(self, name: str) -> Sequence[ImageLayer]:
        """Return how an image was made."""
        with self._call("image_history"):
            return tuple(self._world.gallery.history(self._world.gallery.find(name)))

    def image_tag(self, name: str, new_name: str, recorder: Recorder) -> None:
        """Give an image a further name."""
        with self._call("image_tag"):
            picture = self._world.gallery.find(name)
            new = whole_name(new_name)
            recorder.run(Act("image", f"call {name} {new}", lambda: self._world.gallery.put(picture, [new])))

    def image_load(self, source: str | BinaryIO, recorder: Recorder) -> Sequence[Image]:
        """Take images from what image_save wrote."""
        with self._call("image_load"):
            try:
                entries = _read(source)
                pictures = [(_unpacked(entry), list(entry["names"])) for entry in entries]
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError("this is no archive of simulated images") from error
            gallery = self._world.gallery
            act = Act("image", "load images", lambda: [gallery.put(picture, names) for picture, names in pictures])
            return tuple(gallery.image(picture) for picture in recorder.run(act))

    def image_save(self, names: Sequence[str], target: BinaryIO, recorder: Recorder, *, format: str = "docker") -> None:
        """Write images as one archive, in a format of their own: there is nothing in them."""
        with self._call("image_save"):
            if format not in ("docker", "oci"):
                raise UsageError(f"there is no format {format!r}", hint="docker or oci")
            pictures = {picture.id: picture for picture in map(self._world.gallery.find, names)}
            entries = [asdict(each) | {"names": self._world.gallery.names_of(each)} for each in pictures.values()]
            text = json.dumps({"what": MAGIC, "images": entries}).encode()
            recorder.run(Act("image", f"save {', '.join(names)}", lambda: target.write(text)))

    def image_prune(self, options: PruneOptions, recorder: Recorder, *, dry_run: bool = False) -> Pruned:
        """Remove what nobody uses."""
        with self._call("image_prune"):
            if dry_run:
                return self._world.gallery.prune(options, dry_run=True)
            act = Act("image", "prune images", lambda: self._world.gallery.prune(options, dry_run=False))
            pruned: Pruned = recorder.run(act)
            return pruned


def _unpacked(entry: Mapping[str, Any]) -> Picture:
    return Picture(tuple(ImageLayer(**step) for step in entry["history"]), float(entry["created_s"]), entry["config"])


def _read(source: str | BinaryIO) -> list[dict[str, Any]]:
    if isinstance(source, str):
        try:
            with open(source, "rb") as file:
                text = file.read()
        except OSError as error:
            raise NotFound(f"cannot read {source}: {error.strerror}") from error
    else:
        text = source.read()
    found = json.loads(text)
    if found["what"] != MAGIC:
        raise ValueError(found["what"])
    entries: list[dict[str, Any]] = found["images"]
    return entries


def _folder_size(path: str) -> int:
    if os.path.isfile(path):
        return os.path.getsize(path)
    if not os.path.isdir(path):
        raise NotFound(f"cannot read {path}: no such file or folder")
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)
