"""An image of the store with all that its manifest and config say."""

from __future__ import annotations

from dataclasses import dataclass, field

from backends.image import short_id
from backends.native.images.config import Config, chain_ids
from backends.native.images.manifest import Descriptor, Manifest


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image; its blobs are in the store."""

    names: tuple[str, ...]
    """As shown, with their tags."""

    descriptor: Descriptor
    """Of its manifest."""

    manifest: Manifest = field(repr=False)
    config: Config = field(repr=False)
    indexes: tuple[str, ...] = ()
    """Digests of the indexes it was chosen from."""

    skipped: tuple[int, ...] = ()
    """Numbers of its layers that are not here and cannot be had: foreign ones."""

    @property
    def digest(self) -> str:
        """Digest of its manifest."""
        return self.descriptor.digest

    @property
    def id(self) -> str:
        """Digest of its config."""
        return self.manifest.config.digest

    @property
    def name(self) -> str:
        """Its first name, or its short id."""
        return self.names[0] if self.names else short_id(self.id)

    @property
    def layers(self) -> tuple[tuple[Descriptor, str, str], ...]:
        """Its layers, lowest first: the blob, its diff_id, and the chain id up to it."""
        here = [number for number in range(len(self.manifest.layers)) if number not in self.skipped]
        diff_ids = [self.config.diff_ids[number] for number in here]
        return tuple(zip((self.manifest.layers[number] for number in here), diff_ids, chain_ids(diff_ids), strict=True))

    @property
    def chain_id(self) -> str:
        """Of its topmost layer; empty if it has none."""
        return self.layers[-1][2] if self.manifest.layers else ""

    @property
    def blobs(self) -> dict[str, int]:
        """The blobs it is made of, with their sizes."""
        parts = [self.descriptor, self.manifest.config, *(layer for layer, _, _ in self.layers)]
        return {part.digest: part.size for part in parts}
