"""What is told of images: sizes, who shares what, history, and all there is to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from backends.errors import Damaged, InnkeeperError, NotFound
from backends.image import Image, ImageLayer, short_id
from backends.native.images import host
from backends.native.images.config import time_text
from backends.native.images.layout import Entry
from backends.native.images.store import ImageStore
from backends.native.images.stored import StoredImage

Users = Mapping[str, Sequence[str]]
"""Names of guests, by the id of the image that they were made from."""


class Shares:
    """What images have on disk, and how many have each part."""

    def __init__(self, store: ImageStore, images: Sequence[StoredImage]) -> None:
        self._store = store
        self._parts = {image.digest: self._of(image) for image in images}
        self._count = Counter(part for parts in self._parts.values() for part in parts)

    def _of(self, image: StoredImage) -> dict[str, int]:
        layers = {chain_id: self.layer_bytes(chain_id) for _, _, chain_id in image.layers}
        return {f"blob {digest}": size for digest, size in image.blobs.items()} | layers

    def layer_bytes(self, chain_id: str) -> int:
        """Return the bytes on disk of a layer, unpacked; 0 if it is not."""
        try:
            return self._store.layers.size(chain_id)
        except (NotFound, Damaged):
            return 0

    def own_bytes(self, image: StoredImage) -> int:
        """Return what no other image has of it."""
        parts = self._parts.get(image.digest) or self._of(image)
        return sum(size for part, size in parts.items() if self._count[part] <= 1)

    def images_with(self, chain_id: str) -> int:
        """Return how many images have a layer."""
        return max(1, self._count[chain_id])


def images(store: ImageStore, users: Users) -> list[Image]:
    """Return all images, the built-in one first; one that has several names once for each."""
    damaged = store.damaged()
    unusable = {entry.manifest.digest for entry, _ in damaged}
    stored = [image for image in store.stored() if image.digest not in unusable]
    shares = Shares(store, stored)
    found = [_host(store, users), *(_damaged(entry, error) for entry, error in damaged if not entry.cache_key)]
    for image in stored:
        for name in image.names or (image.name,):
            found.append(_shown(image, name, shares, users))
    return [found[0], *sorted(found[1:], key=lambda image: image.name)]


def _host(store: ImageStore, users: Users) -> Image:
    built_in = store.get(host.NAME)
    return Image(
        name=built_in.name, id=built_in.id, created_s=built_in.created_s, size_bytes=built_in.size_bytes,
        layers=len(built_in.layers), note=built_in.note, users=tuple(users.get(built_in.id, ())),
    )  # fmt: skip


def _damaged(entry: Entry, error: InnkeeperError) -> Image:
    digest = entry.manifest.digest
    return Image(entry.name or short_id(digest), digest, digest=digest, note=f"damaged: {error.message}")


def as_image(store: ImageStore, image: StoredImage, name: str = "") -> Image:
    """Return one image as all layers know it, by one of its names."""
    return _shown(image, name or image.name, Shares(store, store.stored()), {})


def _shown(image: StoredImage, name: str, shares: Shares, users: Users) -> Image:
    config = image.config
    note = next((step.comment for step in config.history[:1] if step.comment.startswith("Imported")), "")
    return Image(
        name=name,
        id=image.id,
        created_s=config.created_s,
        size_bytes=sum(shares.layer_bytes(chain_id) for _, _, chain_id in image.layers),
        layers=len(image.layers),
        note=note.replace("Imported from ", "imported: ", 1),
        digest=image.digest,
        platform=str(config.platform),
        own_bytes=0 if len(image.names) > 1 else shares.own_bytes(image),
        users=tuple(users.get(image.id, ())),
        labels=dict(config.labels),
    )


def history(store: ImageStore, image: StoredImage) -> list[ImageLayer]:
    """Return how an image was made, oldest step first; layers of which nothing is told come as steps of their own."""
    shares = Shares(store, store.stored())
    layers = iter(image.layers)
    found: list[ImageLayer] = []

    def with_layer(created_by: str, created_s: float | None, comment: str) -> ImageLayer | None:
        layer = next(layers, None)
        if layer is None:
            return None
        descriptor, diff_id, chain_id = layer
        return ImageLayer(
            created_by, created_s, descriptor.digest, diff_id, shares.layer_bytes(chain_id), descriptor.size, comment,
            shares.images_with(chain_id),
        )  # fmt: skip

    for step in image.config.history:
        made = None if step.is_empty else with_layer(step.created_by, step.created_s, step.comment)
        found.append(made or ImageLayer(step.created_by, step.created_s, comment=step.comment))
    while (untold := with_layer("", None, "")) is not None:
        found.append(untold)
    return found


def inspect(store: ImageStore, name: str, users: Users) -> dict[str, Any]:
    """Return all that is known of an image, as JSON types. Raises NotFound."""
    if name == host.NAME:
        built_in = store.get(name)
        return {"id": built_in.id, "names": [built_in.name], "created": time_text(built_in.created_s),
                "note": built_in.note, "config": {"Cmd": built_in.command}, "mounts": built_in.mounts,
                "folders": built_in.layers, "users": list(users.get(built_in.id, ()))}  # fmt: skip
    image = store.resolve(name)
    shown = _shown(image, image.name, Shares(store, store.stored()), users)
    config = image.config
    return {
        "id": image.id,
        "names": list(image.names),
        "digest": image.digest,
        "digests": [image.digest, *image.indexes],
        "created": None if config.created_s is None else time_text(config.created_s),
        "author": config.author,
        "platform": str(config.platform),
        "size_bytes": shown.size_bytes,
        "own_bytes": shown.own_bytes,
        "users": list(shown.users),
        "config": dict(config.raw.get("config") or {}),
        "layers": [
            {"digest": layer.digest, "diff_id": diff_id, "chain_id": chain_id, "media_type": layer.media_type,
             "blob_bytes": layer.size, "folder": str(store.layers.folder(chain_id))}
            for layer, diff_id, chain_id in image.layers
        ],
        "history": list(config.raw.get("history") or ()),
        "manifest": dict(image.manifest.raw),
    }  # fmt: skip
