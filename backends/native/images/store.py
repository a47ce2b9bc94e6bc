"""The images of one state folder: an OCI image layout, and the built-in image `host`.

::

    STATE/images/          an OCI image layout (layout.py, blobs.py)
    STATE/images/host/     the built-in image (host.py)
    STATE/layers/          the layers unpacked (backends/native/layers)

An image is in the index only when its blobs are all here and verified, and its layers unpacked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backends.errors import Damaged, InnkeeperError, NotFound, Unsupported
from backends.native.images import host, layout
from backends.native.images.blobs import Blobs
from backends.native.images.config import Config, chain_ids, parse_config
from backends.native.images.deriving import Packed, further_config
from backends.native.images.image import ImageConfig
from backends.native.images.layout import Entry, Identity, Layout
from backends.native.images.manifest import (
    CONFIG,
    MANIFEST,
    MAX_BYTES,
    Descriptor,
    Manifest,
    dump,
    is_index,
    parse_index,
    parse_manifest,
)
from backends.native.images.matching import has_id, is_called, is_hex, is_name, name_for, one
from backends.native.images.media import as_oci
from backends.native.images.platforms import Platform, choose
from backends.native.images.reading import diff_id_of
from backends.native.images.reference import Reference, parse_kept, parse_name
from backends.native.images.stored import StoredImage
from backends.native.images.strict_json import Malformed
from backends.native.images.taking import Taken
from backends.native.layers.store import Layers
from backends.trace import Progress, Recorder

_MAX_NESTED = 4
"""Indexes in indexes."""

_UNREADABLE = (Damaged, NotFound, Malformed, Unsupported)
"""What reading an image raises whose blobs are not what they were."""


class ImageStore:
    """Images by name, id and digest."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.folder = state_dir / "images"
        self.blobs = Blobs(self.folder)
        self.layout = Layout(self.folder)
        self.layers = Layers(state_dir)
        self._known: tuple[Identity | None, list[StoredImage]] = (None, [])
        self._configs: tuple[Identity | None, dict[str, ImageConfig]] = (None, {})

    def get(self, name: str) -> ImageConfig:
        """Return what a container needs of an image, its layers unpacked. Raises NotFound, AmbiguousName."""
        if name == host.NAME:
            return host.image(self.folder / host.NAME)
        identity = self.layout.identity()
        if identity is None or identity != self._configs[0]:
            self._configs = (identity, {})
        known = self._configs[1]
        if name not in known or not all(os.path.exists(folder) for folder in known[name].layers):
            known[name] = self._get(name)
        return known[name]

    def _get(self, name: str) -> ImageConfig:
        return self.for_container(self.resolve(name), name)

    def for_container(self, image: StoredImage, name: str) -> ImageConfig:
        """Return what a container needs of an image that was asked for by a name, its layers unpacked."""
        if not image.layers:
            raise InnkeeperError(f"image {name} has no files: nothing can run in it")
        stack = self.stack(image)
        config = image.config
        return ImageConfig(
            name=name_for(image, name),
            id=image.id,
            created_s=config.created_s or 0.0,
            layers=stack,
            command=list(config.command),
            env=list(config.env),
            cwd=config.cwd,
            entrypoint=list(config.entrypoint),
            user=config.user,
            stop_signal=config.stop_signal,
            volumes=list(config.volumes),
            exposed_ports=list(config.exposed_ports),
            labels=dict(config.labels),
            health=asdict(config.health) if config.health else None,
            digest=image.digest,
            platform=str(config.platform),
        )

    def stack(self, image: StoredImage) -> list[str]:
        """Return the folders of an image's layers, top first; those that are not unpacked are."""
        try:
            return self.layers.stack(image.chain_id)
        except NotFound:  # of one of its layers, unpacked: the blobs are here still
            with self.blobs.using():
                self._unpack(image, Recorder("client"))
            return self.layers.stack(image.chain_id)

    def stored(self) -> list[StoredImage]:
        """Return all images but the built-in one, oldest in the store first; damaged ones are left out."""
        identity = self.layout.identity()
        if identity is None or identity != self._known[0]:
            self._known = (identity, self.readable([e for e in self.layout.entries() if not e.cache_key]))
        return list(self._known[1])

    def everything(self) -> list[StoredImage]:
        """Return all images, with what is kept for builds."""
        return self.readable(self.layout.entries())

    def readable(self, entries: Sequence[Entry]) -> list[StoredImage]:
        """Return the images that entries of the index are of, without those whose manifests cannot be read."""
        found: dict[str, list[Entry]] = {}
        for entry in entries:
            found.setdefault(entry.manifest.digest, []).append(entry)
        images = []
        for same in found.values():
            with suppress(*_UNREADABLE):
                images.append(self.image_of(same))
        return images

    def damaged(self) -> list[tuple[Entry, InnkeeperError]]:
        """Return the entries of the index whose blobs are not what they should be, or missing, and why."""
        found: list[tuple[Entry, InnkeeperError]] = []
        for entry in self.layout.entries():
            try:
                self._check_blobs(self.image_of([entry]))
            except _UNREADABLE as error:
                found.append((entry, error))
        return found

    def names(self) -> set[str]:
        """Return all names of images, as shown."""
        return {entry.name for entry in self.layout.entries() if entry.name}

    def image_of(self, entries: Sequence[Entry]) -> StoredImage:
        """Return the image that some entries of the index are of. Raises Damaged, NotFound."""
        descriptor = entries[0].manifest
        manifest = parse_manifest(self.blobs.read(descriptor.digest, MAX_BYTES))
        return StoredImage(
            names=tuple(entry.name for entry in entries if entry.name),
            descriptor=descriptor,
            manifest=manifest,
            config=self._config(manifest),
            indexes=tuple({entry.from_index: None for entry in entries if entry.from_index}),
            skipped=self._skipped(manifest),
        )

    def _config(self, manifest: Manifest) -> Config:
        data = self.blobs.read(manifest.config.digest, MAX_BYTES)
        if len(data) != manifest.config.size:
            raise Malformed(f"the config has {len(data)} bytes and not {manifest.config.size}, as the manifest says")
        config = parse_config(data)
        if len(config.diff_ids) != len(manifest.layers):
            count = len(config.diff_ids)
            raise Malformed(f"the config speaks of {count} layers, the manifest of {len(manifest.layers)}")
        return config

    def _skipped(self, manifest: Manifest) -> tuple[int, ...]:
        layers = enumerate(manifest.layers)
        return tuple(number for number, layer in layers if layer.is_foreign and not self.blobs.has(layer.digest))

    def resolve(self, name: str) -> StoredImage:
        """Return an image by name, name@digest, digest, id or beginning of its id. Raises NotFound, AmbiguousName."""
        digits = name.removeprefix("sha256:")
        if name.startswith("sha256:") or not is_name(name):
            return one(name, [image for image in self.stored() if has_id(image, digits)])
        wanted = Reference.parse(name)
        if not wanted.digest and (image := self._called(str(wanted))) is not None:
            return image
        found = [image for image in self.stored() if is_called(image, wanted)]
        if not found and is_hex(name):
            found = [image for image in self.stored() if has_id(image, name)]
        return one(name, found)

    def _called(self, name: str) -> StoredImage | None:
        """Return the image that has a name, without reading all the others. Raises Damaged, NotFound."""
        entries = self.layout.entries()
        ours = next((entry for entry in entries if entry.name == name), None)
        if ours is None:
            return None
        same = [each for each in entries if each.manifest.digest == ours.manifest.digest and not each.cache_key]
        return self.image_of(same)

    def put(self, manifest_digest: str, names: Sequence[str], recorder: Recorder, *, platform: str = "") -> StoredImage:
        """Make an image of blobs that are all in, and unpack its layers; of an index, the image for a platform.

        Hold blobs.using() from before the blobs came in. Raises Malformed, Unsupported, NotFound (a blob is missing).
        """
        return self.put_all([(manifest_digest, names)], recorder, platform=platform)[0][0]

    def put_all(
        self,
        wanted: Sequence[tuple[str, Sequence[str]]],
        recorder: Recorder,
        *,
        platform: str = "",
        cache_key: str = "",
        taken: Taken | None = None,
    ) -> list[tuple[StoredImage, list[str]]]:
        """Make several images, of manifests and the names of each: all of them or none."""
        named = [[str(parse_kept(name)) for name in names] for _, names in wanted]
        with self.blobs.using():
            entries = [self._ready(digest, platform, cache_key, recorder, taken) for digest, _ in wanted]
            recorder.check()
            with self.layout.changing() as all_entries:
                for entry, names in zip(entries, named, strict=True):
                    for name in names:
                        layout.give_name(all_entries, name, entry)
                    if not names:
                        layout.keep(all_entries, entry)
            now = self.layout.entries()
            made = [
                self.image_of(
                    [e for e in now if e.manifest.digest == entry.manifest.digest and not e.cache_key] or [entry]
                )
                for entry in entries
            ]
            return list(zip(made, named, strict=True))

    def _ready(self, digest: str, platform: str, cache_key: str, recorder: Recorder, taken: Taken | None) -> Entry:
        """Return the entry of an image that was verified and unpacked."""
        descriptor = self.choose(digest, Platform.parse(platform) if platform else Platform.here())
        from_index = "" if descriptor.digest == digest else digest
        entry = Entry(descriptor, from_index=from_index, cache_key=cache_key)
        image = self.image_of([entry])
        self._check_blobs(image)
        for number in image.skipped:
            recorder.say(f"layer {image.manifest.layers[number].digest} is foreign and not here: it is left out")
        self._unpack(image, recorder, taken)
        return entry

    def choose(self, digest: str, wanted: Platform, depth: int = 0) -> Descriptor:
        """Return the manifest that a digest stands for: itself, or the one for a platform in an index that is here.

        Raises NotFound (no image for that platform), Malformed.
        """
        data = self.blobs.read(digest, MAX_BYTES)
        if not is_index(data):
            media_type = parse_manifest(data).media_type
            return Descriptor(media_type, digest, len(data))
        if depth >= _MAX_NESTED:
            raise Malformed(f"indexes are nested deeper than {_MAX_NESTED}")
        offered = [entry for entry in parse_index(data) if self.blobs.has(entry.digest)]
        number = choose([entry.platform for entry in offered], wanted)
        if number is None:
            raise NotFound(f"there is no image for {wanted} in {digest}")
        return self.choose(offered[number].digest, wanted, depth + 1)

    def _check_blobs(self, image: StoredImage) -> None:
        for layer, _, _ in image.layers:
            size = self.blobs.size(layer.digest)
            if size != layer.size:
                raise Malformed(f"layer {layer.digest} has {size} bytes and not {layer.size}, as the manifest says")

    def _unpack(self, image: StoredImage, recorder: Recorder, taken: Taken | None = None) -> None:
        parent = ""
        for layer, diff_id, chain_id in image.layers:
            if not self.layers.has(chain_id):
                self.unpack_layer(layer, diff_id, parent, recorder, taken)
            elif taken is not None and layer.digest in taken.blobs:  # new, but the same once it is unpacked, it says
                self._check_diff_id(layer, diff_id, recorder)
            parent = chain_id

    def _check_diff_id(self, layer: Descriptor, diff_id: str, recorder: Recorder) -> None:
        with self.blobs.open(layer.digest) as blob:
            found = diff_id_of(blob, layer.media_type, recorder.check)
        if found != diff_id:
            raise Malformed(f"layer {layer.digest} is not what it should be: its content is {found}, not {diff_id}")

    def unpack_layer(
        self, layer: Descriptor, diff_id: str, parent: str, recorder: Recorder, taken: Taken | None = None
    ) -> str:
        """Unpack a layer that is here as a blob, on top of another one, and return its chain id."""
        recorder.check()
        recorder.progress(Progress(layer.digest, "unpacking", 0, layer.size))
        wanted = chain_ids((parent, diff_id) if parent else (diff_id,))[-1]
        if not self.layers.has(wanted):
            with self.blobs.open(layer.digest) as stream:
                self.layers.add(diff_id, parent, stream, layer.media_type, recorder)
            if taken is not None:
                taken.layers.append(wanted)
        recorder.progress(Progress(layer.digest, "done", layer.size, layer.size))
        return wanted

    def add_layer_image(
        self,
        parent: StoredImage | None,
        layer: Packed | None,
        config_changes: Mapping[str, Any],
        history: Mapping[str, Any],
        names: Sequence[str],
        *,
        cache_key: str = "",
    ) -> StoredImage:
        """Make an image of another one with one more step: a layer that is here as a blob, or only changes.

        config_changes are keys of the config's `config` ("Cmd", "Env" …); None takes one away. history is the entry
        of the step. With a cache key the image is kept for later builds, and shown to nobody.
        """
        raw = further_config(parent, layer, config_changes, history)
        with self.blobs.using():
            data = dump(raw)
            config = Descriptor(CONFIG, self.blobs.put(data), len(data))
            layers = [as_oci(found) for found in parent.manifest.layers] if parent else []
            if layer is not None:
                layers.append(as_oci(Descriptor(layer.media_type, layer.digest, layer.size_bytes)))
            return self.put_parts(config, layers, names, Recorder("client"), cache_key=cache_key)

    def put_parts(
        self,
        config: Descriptor,
        layers: Sequence[Descriptor],
        names: Sequence[str],
        recorder: Recorder,
        *,
        cache_key: str = "",
        taken: Taken | None = None,
    ) -> StoredImage:
        """Make an image of a config and layers that are here as blobs; hold blobs.using() from before they came."""
        data = dump({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        })  # fmt: skip
        digest = self.blobs.put(data)
        if taken is not None:
            taken.blobs.add(digest)
        return self.put_all([(digest, names)], recorder, cache_key=cache_key, taken=taken)[0][0]

    def forget_cached(self, cache_key: str) -> None:
        """Keep no longer what a step of a build made; it goes with the next prune."""
        with self.layout.changing() as entries:
            entries[:] = [entry for entry in entries if entry.cache_key != cache_key]

    def cached(self, cache_key: str) -> StoredImage | None:
        """Return the image that a step of a build made, if it is kept still."""
        found = [entry for entry in self.layout.entries() if entry.cache_key == cache_key]
        return self.image_of(found) if found else None

    def tag(self, name: str, new_name: str) -> None:
        """Give an image a further name, taken from whoever has it. Raises NotFound, UsageError, AlreadyExists."""
        wanted = str(parse_name(new_name))
        with self.blobs.using(), self.layout.changing() as entries:
            image = self.resolve(name)
            known = next((entry for entry in entries if entry.manifest.digest == image.digest), None)
            if known is None:
                raise NotFound(f"there is no image {name} any more")
            layout.give_name(entries, wanted, known)
