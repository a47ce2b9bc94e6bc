"""Images of one index, for several platforms: those that are here, and an index of them (image-index.md)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from backends.errors import InnkeeperError
from backends.native.images.manifest import INDEX, MAX_BYTES, dump, is_index, parse_index
from backends.native.images.store import ImageStore
from backends.native.images.stored import StoredImage


def together(store: ImageStore, image: StoredImage) -> list[StoredImage]:
    """Return the images that came with one from the same index, itself included; alone if it came from none."""
    found = {image.digest: image}
    for other in store.stored():
        if set(other.indexes) & set(image.indexes):
            found.setdefault(other.digest, other)
    return list(found.values())


def index_of(store: ImageStore, images: Sequence[StoredImage]) -> bytes:
    """Return an index of images: the very one that they came from if all of it is here, else one of these.

    Platforms and annotations are those of the index they came from if that is here, else of their configurations.
    """
    here = {image.digest: image for image in images}
    for digest in dict.fromkeys(digest for image in images for digest in image.indexes):
        with suppress(InnkeeperError):  # the index itself is not kept for ever
            data = store.blobs.read(digest, MAX_BYTES)
            entries = parse_index(data) if is_index(data) else []
            if here.keys() == {entry.digest for entry in entries}:
                return data
            known = [entry for entry in entries if entry.digest in here]
            if len(known) == len(here):
                return _index([entry.to_json() for entry in known])
    ordered = sorted(images, key=lambda image: (str(image.config.platform), image.digest))
    return _index([image.descriptor.to_json() | {"platform": image.config.platform.to_json()} for image in ordered])


def _index(manifests: list[dict[str, object]]) -> bytes:
    return dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
