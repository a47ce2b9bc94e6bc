"""What is taken in before an image of it is known: gone again if none comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backends.errors import Busy, InnkeeperError

if TYPE_CHECKING:
    from backends.native.images.store import ImageStore


@dataclass(slots=True)
class Taken:
    """Blobs and layers that were not here before."""

    blobs: set[str] = field(default_factory=set)
    layers: list[str] = field(default_factory=list)
    """Chain ids, lower ones first."""


@contextmanager
def taking(store: ImageStore) -> Iterator[Taken]:
    """Yield where to note what is added; at the end what no image has of it is removed, also after an exception.

    Meanwhile no garbage is collected. Where somebody else is adding too it is left for the next prune or clean.
    """
    taken = Taken()
    try:
        with store.blobs.using():
            yield taken
    finally:
        with suppress(Busy, InnkeeperError):  # never in the way of what was wrong first
            _discard(store, taken)


def _discard(store: ImageStore, taken: Taken) -> None:
    images = store.everything()
    wanted = {digest for image in images for digest in image.blobs}
    chains = {chain_id for image in images for _, _, chain_id in image.layers}
    blobs, layers = taken.blobs - wanted, [each for each in taken.layers if each not in chains]
    if not blobs and not layers:
        return
    with store.blobs.collecting(timeout_s=0.0):
        for digest in blobs:
            store.blobs.remove(digest)
        for chain_id in reversed(layers):
            if store.layers.has(chain_id):
                store.layers.remove(chain_id)
