"""Manifests and indexes (image-spec manifest.md, image-index.md; docker's manifest v2 schema 2), read strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backends.errors import InnkeeperError, Unsupported
from backends.native.images.blobs import check_digest
from backends.native.images.platforms import Platform
from backends.native.images.strict_json import Malformed, a_list, a_size, a_text, an_object, parse, text_map

MAX_BYTES = 4 << 20
"""Of a manifest, an index or a config; registries take no more either."""

MAX_LAYERS = 1000

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP, LAYER_ZSTD = LAYER + "+gzip", LAYER + "+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

MANIFESTS, INDEXES, CONFIGS = (MANIFEST, DOCKER_MANIFEST), (INDEX, DOCKER_INDEX), (CONFIG, DOCKER_CONFIG)
_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
FOREIGN_LAYERS = (_FOREIGN, _FOREIGN + "+gzip", _FOREIGN + "+zstd",
                  "application/vnd.docker.image.rootfs.foreign.diff.tar",
                  "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")  # fmt: skip
LAYERS = (LAYER, LAYER_GZIP, LAYER_ZSTD, "application/vnd.docker.image.rootfs.diff.tar",
          "application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar.zstd",
          *FOREIGN_LAYERS)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What refers to a blob (descriptor.md)."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_foreign(self) -> bool:
        """True for a layer that registries do not hand on."""
        return self.media_type in FOREIGN_LAYERS

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in manifests and indexes."""
        found: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform is not None:
            found["platform"] = self.platform.to_json()
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return found


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    """Lowest first."""

    annotations: Mapping[str, str]
    raw: Mapping[str, Any]


def parse_manifest(data: bytes, what: str = "the manifest") -> Manifest:
    """Return what the bytes of a manifest say. Raises Malformed, Unsupported (artifacts, old schemas)."""
    raw = parse(data, what, MAX_BYTES)
    media_type = _media_type(raw, what)
    if media_type not in MANIFESTS:
        raise Unsupported(f"{what} is no image but {media_type[:100]!r}")
    config = descriptor(raw.get("config"), f"config of {what}")
    if config.media_type not in CONFIGS or raw.get("artifactType"):
        kind = a_text(raw.get("artifactType"), what) or config.media_type
        raise Unsupported(f"{what} is of an artifact that is no image: {kind[:100]!r}")
    entries = a_list(raw.get("layers"), f"layers of {what}")
    if len(entries) > MAX_LAYERS:
        raise Malformed(f"{what} has more than {MAX_LAYERS} layers")
    layers = tuple(descriptor(entry, f"layer {number} of {what}") for number, entry in enumerate(entries))
    for layer in layers:
        if layer.media_type not in LAYERS:
            raise Unsupported(f"{what} has a layer of unknown type {layer.media_type[:100]!r}")
    return Manifest(media_type, config, layers, text_map(raw.get("annotations"), f"annotations of {what}"), raw)


def parse_index(data: bytes, what: str = "the index") -> tuple[Descriptor, ...]:
    """Return the manifests that the bytes of an index name, those of other artifacts left out. Raises Malformed."""
    raw = parse(data, what, MAX_BYTES)
    if "manifests" not in raw or _media_type(raw, what) not in INDEXES:
        raise Malformed(f"{what} is no image index")
    found = (descriptor(entry, f"entry of {what}") for entry in a_list(raw["manifests"], what))
    return tuple(entry for entry in found if entry.media_type in (*MANIFESTS, *INDEXES))


def is_index(data: bytes, what: str = "the manifest") -> bool:
    """Say whether bytes are an index rather than a manifest, by what they say themselves. Raises Malformed."""
    raw = parse(data, what, MAX_BYTES)
    return _media_type(raw, what) in INDEXES


def _media_type(raw: Mapping[str, Any], what: str) -> str:
    """Return what a manifest says it is. OCI ones need not say so, but may not be both (CVE-2021-41190)."""
    version = raw.get("schemaVersion")
    if version == 1:
        raise Unsupported(f"{what} is of docker's schema 1, which nobody writes any more")
    if version != 2 or isinstance(version, bool):
        raise Malformed(f"{what} has no schemaVersion 2")
    if ("layers" in raw or "config" in raw) and "manifests" in raw:
        raise Malformed(f"{what} is a manifest and an index at once")
    said = a_text(raw.get("mediaType"), f"mediaType of {what}")
    looks_like = INDEX if "manifests" in raw else MANIFEST
    if said in (*MANIFESTS, *INDEXES) and (said in INDEXES) != (looks_like == INDEX):
        raise Malformed(f"{what} is not what its mediaType says: {said}")
    return said or looks_like


def descriptor(value: object, what: str) -> Descriptor:
    """Return a descriptor. Raises Malformed."""
    raw = an_object(value, what)
    size = a_size(raw.get("size"), f"size of {what}")
    try:
        digest = check_digest(raw.get("digest"))
    except InnkeeperError as error:
        raise Malformed(f"{what}: {error}") from None
    platform = raw.get("platform")
    return Descriptor(
        a_text(raw.get("mediaType"), f"mediaType of {what}"),
        digest,
        size,
        Platform.from_json(platform, f"platform of {what}") if platform is not None else None,
        text_map(raw.get("annotations"), f"annotations of {what}"),
    )


def dump(value: object) -> bytes:
    """Return JSON as we write it: the same value always gives the same bytes."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
