"""Images from archives and folders: docker-archive (`docker save`, podman, skopeo), OCI layout, also both in one.

An archive is read once, from front to back: what may be a layer goes straight into the store as a blob, what may be a
manifest stays in memory until the end, when it is known what refers to what. Names in the archive are compared with
names and lead to no files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from backends.errors import InnkeeperError, NotFound, UsageError
from backends.image import Image
from backends.native.images import manifest, strict_json
from backends.native.images.listing import as_image
from backends.native.images.manifest import CONFIG, MANIFEST, MAX_BYTES, Descriptor
from backends.native.images.platforms import Platform
from backends.native.images.reading import BLOCK, Peeked, Source, layer_type, plain
from backends.native.images.reference import parse_name
from backends.native.images.store import ImageStore
from backends.native.images.strict_json import Malformed, a_text, an_object
from backends.native.images.taking import Taken, taking
from backends.native.images.tar_reading import Member, members
from backends.trace import Progress, Recorder

_SMALL_BYTES = 4 << 20
_ALL_SMALL_BYTES = 128 << 20
_SPARE_BYTES = 64 << 20
"""Of the disk, that no archive may take."""

_MAX_LINKS = 8
_LAYOUT_BLOBS = "blobs/sha256/"
_CONTAINERD_NAME = "io.containerd.image.name"


def load(store: ImageStore, source: str | BinaryIO, recorder: Recorder) -> list[Image]:
    """Take all images from an archive or a folder, all or none. Raises NotFound, Malformed, UsageError …"""
    try:
        with taking(store) as taken:
            files = _Files(store, taken, recorder)
            _take(files, source)
            images = store.put_all(_Reading(store, files).images(), recorder, taken=taken)
    except Malformed as error:
        raise Malformed(f"cannot load images: {error.message}", hint=error.hint) from None
    return [as_image(store, image, name) for image, names in images for name in names or ("",)]


def _take(files: _Files, source: str | BinaryIO) -> None:
    if not isinstance(source, str):
        return files.take_archive(source)
    if os.path.isdir(source):
        return files.take_folder(Path(source))
    try:
        with open(source, "rb") as stream:
            files.take_archive(stream)
    except FileNotFoundError:
        raise NotFound(f"there is no {source}") from None


@dataclass(slots=True)
class _Files:
    """The files of an archive, by name."""

    store: ImageStore
    taken: Taken
    recorder: Recorder
    small: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, str] = field(default_factory=dict)
    """Digests of those that are blobs now."""

    links: dict[str, str] = field(default_factory=dict)
    _small_bytes: int = 0

    def take_archive(self, stream: Source) -> None:
        """Read an archive to its end."""
        peeked = Peeked(stream, self.recorder.check)
        if not peeked.start:
            raise Malformed("it is empty")
        for member in members(plain(peeked, peeked.compression)):
            if member.link:
                self.links[member.name] = member.link
            else:
                self._take(member.name, member, member.size)

    def take_folder(self, folder: Path) -> None:
        """Read an OCI layout that is a folder, or an archive that was unpacked; links are not followed."""
        for path, size in _files_of(folder):
            fd = os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                self._take(path, file, size)

    def _take(self, name: str, content: Source | Member, size: int) -> None:
        self.recorder.check()
        known = _LAYOUT_BLOBS + name.removeprefix(_LAYOUT_BLOBS) == name and _is_hex(name[len(_LAYOUT_BLOBS) :])
        digest = "sha256:" + name[len(_LAYOUT_BLOBS) :] if known else None
        if size <= _SMALL_BYTES and not name.endswith(".tar"):
            self._small_bytes += size
            if self._small_bytes > _ALL_SMALL_BYTES:
                raise Malformed("the archive has too many small files")
            self.small[name] = b"".join(iter(lambda: content.read(BLOCK), b""))
            return
        space = os.statvfs(self.store.blobs.prepared())
        if size > space.f_bavail * space.f_frsize - _SPARE_BYTES:
            raise InnkeeperError(f"cannot load images: no space for a file of {size} bytes")
        self.large[name] = self._ingest(name, content, size, digest)

    def _ingest(self, name: str, content: Source | Member, size: int, digest: str | None) -> str:
        with self.store.blobs.ingest(digest, size) as ingest:
            ingest.restart()
            while block := content.read(BLOCK):
                ingest.write(block)
                self.recorder.progress(Progress(name[-76:], "reading", ingest.offset, size))
            was_here = ingest.is_here
            found = ingest.commit()
        if not was_here:
            self.taken.blobs.add(found)
        return found

    def where(self, name: str) -> str:
        """Return the name of the file that a name or link stands for. Raises Malformed."""
        for _ in range(_MAX_LINKS):
            if name not in self.links:
                break
            name = self.links[name]
        return name

    def has(self, name: str) -> bool:
        """Say whether the archive has such a file."""
        return self.where(name) in self.small or self.where(name) in self.large

    def content(self, name: str, what: str) -> bytes:
        """Return a file that is read whole: a manifest, a config. Raises Malformed."""
        place = self.where(name)
        if place in self.small:
            return self.small[place]
        if place in self.large:
            return self.store.blobs.read(self.large[place], MAX_BYTES)
        raise Malformed(f"{what} is not in the archive: {name[:100]}")

    def blob(self, name: str, what: str) -> tuple[str, int]:
        """Return digest and size of a file, which is a blob of the store then. Raises Malformed."""
        place = self.where(name)
        if place in self.large:
            return self.large[place], self.store.blobs.size(self.large[place])
        return self.put(self.content(place, what)), len(self.content(place, what))

    def put(self, data: bytes) -> str:
        """Have some bytes as a blob."""
        digest = self.store.blobs.put(data)
        self.taken.blobs.add(digest)
        return digest


def _is_hex(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _files_of(folder: Path) -> Iterator[tuple[str, int]]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(folder)), path.stat().st_size


@dataclass(slots=True)
class _Reading:
    """What the manifests of an archive say."""

    store: ImageStore
    files: _Files

    def images(self) -> list[tuple[str, list[str]]]:
        """Return manifests, as blobs of the store with all that they need, and the names of each."""
        is_docker, is_oci = self.files.has("manifest.json"), self.files.has("index.json")
        if not is_docker and not is_oci:
            hint = "a root file system becomes an image by: inn image import"
            raise Malformed("neither manifest.json nor index.json is in it", hint=hint)
        found = self._of_layout() if is_oci else []
        if is_docker:
            found = self._of_docker(found)
        if not found:
            raise Malformed("there is none in it")
        return found

    def _of_layout(self) -> list[tuple[str, list[str]]]:
        names: dict[str, list[str]] = {}
        for entry in manifest.parse_index(self.files.content("index.json", "index.json"), "index.json"):
            with_name = names.setdefault(self._take_tree(entry, 0), [])
            said = entry.annotations.get(_CONTAINERD_NAME) or entry.annotations.get("org.opencontainers.image.ref.name")
            if said:
                with_name.append(_name(said))
        return list(names.items())

    def _take_tree(self, entry: Descriptor, depth: int) -> str:
        """Have a manifest and all that it refers to in the store; of an index, the image for this machine."""
        what = f"the manifest {entry.digest[:19]}"
        data = self._blob_of_layout(entry, what)
        if not manifest.is_index(data, what):
            found = manifest.parse_manifest(data, what)
            self._blob_of_layout(found.config, f"the config of {what}")
            for layer in found.layers:
                if not layer.is_foreign or self.files.has(_place(layer.digest)):
                    self._have(layer, f"a layer of {what}")
            return self.files.put(data)
        if depth >= 4:
            raise Malformed("indexes are nested deeper than 4")
        here = [each for each in manifest.parse_index(data, what) if self.files.has(_place(each.digest))]
        from backends.native.images.platforms import choose

        number = choose([each.platform for each in here], Platform.here())
        if number is None:
            raise NotFound(f"cannot load images: there is none for {Platform.here()} in {what}")
        return self._take_tree(here[number], depth + 1)

    def _blob_of_layout(self, entry: Descriptor, what: str) -> bytes:
        self._have(entry, what)
        return self.files.content(_place(entry.digest), what)

    def _have(self, entry: Descriptor, what: str) -> None:
        digest, size = self.files.blob(_place(entry.digest), what)
        if digest != entry.digest or size != entry.size:
            raise Malformed(f"{what} is not what it should be: {digest[:19]}, {size} bytes")

    def _of_docker(self, of_layout: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
        """Return the images of manifest.json; those in index.json too keep the manifest that they have there."""
        known = {self._config_of(digest): (digest, names) for digest, names in of_layout}
        found = list(of_layout)
        for value in strict_json.parse_list(self.files.content("manifest.json", "manifest.json"), "manifest.json"):
            raw = an_object(value, "an entry of manifest.json")
            names = [_name(tag) for tag in strict_json.texts(raw.get("RepoTags"), "RepoTags of manifest.json")]
            config, size = self.files.blob(self._path(raw.get("Config"), "Config"), "the config")
            if config in known:
                known[config][1][:] = dict.fromkeys([*known[config][1], *names])
                continue
            layers = [self._layer(path) for path in strict_json.a_list(raw.get("Layers"), "Layers of manifest.json")]
            data = manifest.dump({
                "schemaVersion": 2, "mediaType": MANIFEST, "config": Descriptor(CONFIG, config, size).to_json(),
                "layers": [layer.to_json() for layer in layers],
            })  # fmt: skip
            found.append((self.files.put(data), names))
        return found

    def _config_of(self, digest: str) -> str:
        return manifest.parse_manifest(self.store.blobs.read(digest, MAX_BYTES)).config.digest

    def _path(self, value: object, what: str) -> str:
        path = a_text(value, f"{what} of manifest.json")
        if not path or path.startswith("/") or ".." in path.split("/"):
            raise Malformed(f"{what} in manifest.json leads out of the archive: {path[:100]!r}")
        return os.path.normpath(path)

    def _layer(self, value: object) -> Descriptor:
        digest, size = self.files.blob(self._path(value, "Layers"), "a layer")
        with self.store.blobs.open(digest) as file:
            return Descriptor(layer_type(file.read(512)), digest, size)


def _place(digest: str) -> str:
    return _LAYOUT_BLOBS + digest.removeprefix("sha256:")


def _name(text: str) -> str:
    """Return a name from an archive; one that is none is an error, and not another name. Raises Malformed."""
    with suppress(UsageError):
        return str(parse_name(text))
    raise Malformed(f"{text[:100]!r} in it is no name of an image")
