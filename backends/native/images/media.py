"""Docker's media types and their OCI equivalents: the same bytes under another name."""

from __future__ import annotations

from dataclasses import replace

from backends.native.images import manifest
from backends.native.images.manifest import Descriptor

_OCI = {
    manifest.DOCKER_CONFIG: manifest.CONFIG,
    manifest.DOCKER_MANIFEST: manifest.MANIFEST,
    manifest.DOCKER_INDEX: manifest.INDEX,
    "application/vnd.docker.image.rootfs.diff.tar": manifest.LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": manifest.LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": manifest.LAYER_ZSTD,
    "application/vnd.docker.image.rootfs.foreign.diff.tar": manifest.FOREIGN_LAYERS[0],
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": manifest.FOREIGN_LAYERS[1],
}


def as_oci(found: Descriptor) -> Descriptor:
    """Return a descriptor as an OCI manifest has it."""
    return replace(found, media_type=_OCI.get(found.media_type, found.media_type))
