"""`image push`: the blobs that are not there, several at once, then the manifest, which makes an image of them.

Where another repository of the registry has a layer it is taken over from there. Layers that are plain tars are
compressed first, which gives the image another manifest in the registry than it has here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backends.errors import NotFound, PermissionDenied
from backends.native.images.blobs import digest_of
from backends.native.images.manifest import (
    INDEX,
    LAYER,
    MANIFEST,
    Descriptor,
    Manifest,
    dump,
    parse_index,
    parse_manifest,
)
from backends.native.images.media import as_oci
from backends.native.images.strict_json import parse
from backends.native.registry import session, settings
from backends.native.registry.crew import Crew
from backends.native.registry.failures import Answered, Broken
from backends.trace import Progress

if TYPE_CHECKING:
    from backends.image import TransferOptions
    from backends.native.images.blobs import Blobs
    from backends.native.images.reference import Reference
    from backends.native.registry.client import Client
    from backends.native.registry.web import Patience, Web
    from backends.trace import Recorder

_BLOCK = 1 << 17
_LARGEST = 4 << 20
_GZIP = 16 + zlib.MAX_WBITS


def push(
    reference: Reference,
    manifest_digest: str,
    options: TransferOptions,
    blobs: Blobs,
    recorder: Recorder,
    *,
    elsewhere: Mapping[str, Sequence[str]] | None = None,
    patience: Patience | None = None,
) -> str:
    """Send an image; return the digest that the registry knows it by. Hold blobs.using() meanwhile.

    elsewhere: for layers by digest, other repositories of the same registry that are likely to have them.
    Raises PermissionDenied, BackendUnavailable, Cancelled, InnkeeperError (a blob is missing here).
    """
    with session.clients([_place(reference)], options, recorder, patience) as (web, (client,)):
        sender = Sender(web, client, blobs, recorder, elsewhere or {})
        data, manifest = sender.send_image(manifest_digest, options.compression, f"the manifest of {reference}")
        client.put_manifest(reference.tag or digest_of(data), data, manifest.media_type, str(reference))
    return digest_of(data)


def push_index(
    reference: Reference,
    index: bytes,
    options: TransferOptions,
    blobs: Blobs,
    recorder: Recorder,
    *,
    elsewhere: Mapping[str, Sequence[str]] | None = None,
    patience: Patience | None = None,
) -> str:
    """Send the images of an index, each under its digest, then the index; all of them are here. As push() otherwise.

    Where layers have to be compressed for it, the index that is sent is another one.
    """
    with session.clients([_place(reference)], options, recorder, patience) as (web, (client,)):
        sender = Sender(web, client, blobs, recorder, elsewhere or {})
        sent = []
        for entry in parse_index(index):
            what = f"{reference} for {entry.platform}" if entry.platform else str(reference)
            data, manifest = sender.send_image(entry.digest, options.compression, what)
            client.put_manifest(digest_of(data), data, manifest.media_type, what)
            sent.append(replace(entry, media_type=manifest.media_type, digest=digest_of(data), size=len(data)))
        raw = parse(index, "the index", _LARGEST)
        if tuple(sent) != parse_index(index):
            raw = raw | {"manifests": [entry.to_json() for entry in sent], "mediaType": INDEX}
            index = dump(raw)
        client.put_manifest(reference.tag or digest_of(index), index, str(raw.get("mediaType", INDEX)), str(reference))
    return digest_of(index)


def _place(reference: Reference) -> settings.Place:
    return settings.places(reference.registry, reference.repository, by_digest=False, settings=settings.read())[-1]


class Sender:
    """Sends blobs to one repository."""

    def __init__(
        self, web: Web, client: Client, blobs: Blobs, recorder: Recorder, elsewhere: Mapping[str, Sequence[str]]
    ) -> None:
        self._web, self._client, self._blobs, self._recorder = web, client, blobs, recorder
        self._elsewhere = elsewhere
        self._crew = Crew()

    def send_image(self, digest: str, compression: str, what: str) -> tuple[bytes, Manifest]:
        """Send all blobs of an image and return its manifest as it is to be there. Raises InnkeeperError."""
        data = self._blobs.read(digest, _LARGEST)
        manifest = parse_manifest(data, what)
        data, manifest = _compressed(data, manifest, compression, self._blobs, self._recorder)
        self.send_all(manifest)
        self._recorder.check()
        return data, manifest

    def send_all(self, manifest: Manifest) -> None:
        """Send all layers, then the configuration; the first failure ends all of it."""
        unique = {layer.digest: layer for layer in manifest.layers if not layer.is_foreign}
        for layer in unique.values():
            if not self._blobs.has(layer.digest):
                raise NotFound(f"layer {layer.digest} is not here any more: the image cannot be pushed")
        self._crew.do_all(self.send, unique.values())
        self.send(manifest.config, shown=False)

    def send(self, blob: Descriptor, *, shown: bool = True) -> None:
        """Send one blob unless it is there. Raises InnkeeperError."""

        def read(begin: int, length: int) -> Iterator[bytes]:
            return self._read(blob, begin, length, shown)

        failures = 0
        while True:
            if self._client.has_blob(blob.digest, to_push=True):
                return self._tell(blob, "done" if failures else "already there", blob.size, shown)
            for source in self._elsewhere.get(blob.digest, ())[:2]:
                if self._is_taken_over(blob, source):
                    return self._tell(blob, f"taken over from {source}", blob.size, shown)
            try:
                self._client.upload(blob.digest, blob.size, read)
            except Broken as error:
                failures += 1
                if failures >= self._web.patience.attempts:
                    raise
                self._web.rest(failures, error.message)
            else:
                return self._tell(blob, "done", blob.size, shown)

    def _is_taken_over(self, blob: Descriptor, source: str) -> bool:
        try:
            return self._client.is_mounted(blob.digest, source)
        except (PermissionDenied, NotFound, Answered):  # that it is kept from us is no reason not to push
            return False

    def _read(self, blob: Descriptor, begin: int, length: int, shown: bool) -> Iterator[bytes]:
        end = begin + length
        with self._blobs.open(blob.digest) as file:
            file.seek(begin)
            while begin < end and (data := file.read(min(_BLOCK, end - begin))):
                self._recorder.check()
                self._crew.check()
                self._tell(blob, "uploading", begin, shown)
                begin += len(data)
                yield data

    def _tell(self, blob: Descriptor, text: str, done: int, shown: bool) -> None:
        if shown:
            self._recorder.progress(Progress(blob.digest, text, done, blob.size))


def _compressed(
    data: bytes, manifest: Manifest, compression: str, blobs: Blobs, recorder: Recorder
) -> tuple[bytes, Manifest]:
    """Return the manifest with all layers compressed; itself where they are."""
    layers = [as_oci(layer) for layer in manifest.layers]
    if not any(layer.media_type == LAYER for layer in layers):
        return data, manifest
    packed = [_pack(layer, compression, blobs, recorder) if layer.media_type == LAYER else layer for layer in layers]
    raw = dict(manifest.raw) | {
        "mediaType": MANIFEST,
        "config": as_oci(manifest.config).to_json(),
        "layers": [layer.to_json() for layer in packed],
    }
    data = dump(raw)
    return data, parse_manifest(data)


def _pack(layer: Descriptor, compression: str, blobs: Blobs, recorder: Recorder) -> Descriptor:
    """Return the layer compressed, as a blob of the store; the same tar always gives the same bytes."""
    squeeze = _compressor(compression)
    done = 0
    with blobs.open(layer.digest) as file, blobs.ingest() as ingest:
        while block := file.read(_BLOCK):
            recorder.check()
            done += len(block)
            recorder.progress(Progress(layer.digest, "compressing", min(done, layer.size - 1), layer.size))
            ingest.write(squeeze.compress(block))
        ingest.write(squeeze.flush())
        size, digest = ingest.offset, ingest.commit()
    recorder.progress(Progress(layer.digest, "compressed", layer.size, layer.size))
    return Descriptor(f"{LAYER}+{compression}", digest, size, annotations=layer.annotations)


def _compressor(compression: str) -> Any:
    if compression != "zstd":
        return zlib.compressobj(6, wbits=_GZIP)
    from zstandard import ZstdCompressor

    return ZstdCompressor(level=3).compressobj()
