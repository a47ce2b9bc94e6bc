"""Images as archives: docker-archive, which docker, podman and skopeo load, and OCI layout."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from backends.errors import Unsupported, UsageError
from backends.native.images import host, layout, manifest
from backends.native.images.manifest import dump
from backends.native.images.reading import BLOCK, Source, compression_of, plain
from backends.native.images.reference import Reference
from backends.native.images.store import ImageStore
from backends.native.images.stored import StoredImage
from backends.trace import Progress, Recorder

_BLOCK_BYTES = 512
FORMATS = ("docker", "oci")

_Chosen = list[tuple[StoredImage, list[str]]]


def save(store: ImageStore, names: Sequence[str], target: BinaryIO, recorder: Recorder, form: str) -> None:
    """Write images as one archive. Raises NotFound, UsageError; Unsupported for the built-in image."""
    if form not in FORMATS:
        raise UsageError(f"there is no format {form!r}", hint="docker or oci")
    with store.blobs.using():
        chosen = _chosen(store, names)
        writing = _Writing(store, target, recorder)
        if form == "docker":
            writing.docker(chosen)
        else:
            writing.oci(chosen)


def _chosen(store: ImageStore, names: Sequence[str]) -> _Chosen:
    """Return the images with the names to save; a repository without a tag means all its tags, as for docker."""
    found: dict[str, tuple[StoredImage, list[str]]] = {}
    for name in names:
        if name == host.NAME:
            raise Unsupported("the image host cannot be saved: it is this machine's own programs")
        for image, tags in _meant(store, name):
            known = found.setdefault(image.digest, (image, []))[1]
            known += [tag for tag in tags if tag not in known]
    return list(found.values())


def _meant(store: ImageStore, name: str) -> Iterator[tuple[StoredImage, list[str]]]:
    try:
        wanted = Reference.parse(name)
    except UsageError:
        yield store.resolve(name), []
        return
    is_bare = not wanted.digest and ":" not in name.rpartition("/")[2]
    tagged = [(image, [tag for tag in image.names if _is_of(Reference.parse(tag), wanted)]) for image in store.stored()]
    if is_bare and any(tags for _, tags in tagged):
        yield from ((image, tags) for image, tags in tagged if tags)
        return
    image = store.resolve(name)
    yield image, [str(wanted)] if str(wanted) in image.names and not wanted.digest else []


def _is_of(name: Reference, wanted: Reference) -> bool:
    return name.name == wanted.name and not name.digest


class _Writing:
    def __init__(self, store: ImageStore, target: BinaryIO, recorder: Recorder) -> None:
        self._store, self._target, self._recorder = store, target, recorder
        self._written: set[str] = set()

    def docker(self, chosen: _Chosen) -> None:
        """Write configs and plain layers under their digests, and manifest.json at the end."""
        entries = []
        for image, names in chosen:
            config = image.id.removeprefix("sha256:") + ".json"
            self._file(config, self._store.blobs.read(image.id, manifest.MAX_BYTES))
            layers = []
            for layer, diff_id, _ in image.layers:
                layers.append(diff_id.removeprefix("sha256:") + ".tar")
                if layers[-1] not in self._written:
                    self._plain_layer(layers[-1], layer.digest)
            entries.append({"Config": config, "RepoTags": names or None, "Layers": layers})
        self._file("manifest.json", dump(entries))
        self._end()

    def oci(self, chosen: _Chosen) -> None:
        """Write blobs as they are, and index.json at the end."""
        self._file("oci-layout", dump({"imageLayoutVersion": "1.0.0"}))
        manifests = []
        for image, names in chosen:
            for digest, size in image.blobs.items():
                path = "blobs/sha256/" + digest.removeprefix("sha256:")
                if path not in self._written:
                    with self._store.blobs.open(digest) as blob:
                        self._stream(path, blob, size)
            described = {**image.descriptor.to_json(), "platform": image.config.platform.to_json()}
            manifests += [
                described | ({"annotations": {layout.NAME: name, "io.containerd.image.name": name}} if name else {})
                for name in names or [""]
            ]
        self._file("index.json", dump({"schemaVersion": 2, "mediaType": manifest.INDEX, "manifests": manifests}))
        self._end()

    def _plain_layer(self, path: str, digest: str) -> None:
        """The size stands before the content, so a compressed layer is read twice."""
        with self._store.blobs.open(digest) as blob:
            compression = compression_of(blob.read(_BLOCK_BYTES))
        size = self._store.blobs.size(digest)
        if compression:
            with self._store.blobs.open(digest) as blob:
                size = sum(len(block) for block in self._blocks(plain(blob, compression)))
        with self._store.blobs.open(digest) as blob:
            self._stream(path, plain(blob, compression), size)

    def _blocks(self, source: Source) -> Iterator[bytes]:
        while block := source.read(BLOCK):
            self._recorder.check()
            yield block

    def _stream(self, path: str, source: Source, size: int) -> None:
        self._target.write(_header(path, size))
        done = 0
        for block in self._blocks(source):
            self._target.write(block)
            done += len(block)
            self._recorder.progress(Progress(path[-76:], "writing", done, size))
        self._target.write(b"\0" * (-size % _BLOCK_BYTES))
        self._written.add(path)

    def _file(self, path: str, data: bytes) -> None:
        if path not in self._written:
            self._target.write(_header(path, len(data)) + data + b"\0" * (-len(data) % _BLOCK_BYTES))
            self._written.add(path)

    def _end(self) -> None:
        self._target.write(b"\0" * 2 * _BLOCK_BYTES)
        self._target.flush()


def _header(path: str, size: int) -> bytes:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.GNU_FORMAT)
