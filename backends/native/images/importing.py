"""Root file systems become images of one layer."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import BinaryIO

from backends.errors import AlreadyExists, InnkeeperError, NotFound, UsageError
from backends.image import Image
from backends.kernel.mounts import KernelStep
from backends.native.images import rootfs
from backends.native.images.blobs import Ingest
from backends.native.images.config import time_text
from backends.native.images.listing import as_image
from backends.native.images.manifest import CONFIG, LAYER, Descriptor, dump
from backends.native.images.platforms import Platform
from backends.native.images.reading import BLOCK, Peeked, Source, diff_id_of, layer_compression, layer_type, plain
from backends.native.images.reference import parse_name
from backends.native.images.store import ImageStore
from backends.native.images.strict_json import Malformed
from backends.native.images.taking import Taken, taking
from backends.trace import Progress, Recorder


@dataclass(frozen=True, slots=True)
class TakeIn(KernelStep):
    """Take a root file system into the store, as the blob of a layer."""

    store: ImageStore
    source: str | BinaryIO
    recorder: Recorder
    taken: Taken
    kind = "import"

    def describe(self) -> str:
        return f"take in {self.source if isinstance(self.source, str) else 'a tar stream'}"

    def by_hand(self) -> str:
        if isinstance(self.source, str) and os.path.isdir(self.source):
            return " ".join(_tar_command(self.source)) + " | sha256sum"
        return f"sha256sum {self.source if isinstance(self.source, str) else '-'}"

    def run(self) -> tuple[Descriptor, str]:
        """Return the layer and its diff_id."""
        if not isinstance(self.source, str):
            return self._stream(self.source)
        if os.path.isdir(self.source):
            return self._folder(self.source)
        try:
            with open(self.source, "rb") as stream:
                return self._stream(stream)
        except FileNotFoundError:
            raise NotFound(f"there is no {self.source}") from None

    def _folder(self, path: str) -> tuple[Descriptor, str]:
        # What it complains of goes to a file: it would wait for ever for who reads a pipe only at the end.
        with (
            tempfile.TemporaryFile() as complaints,
            subprocess.Popen(_tar_command(path), stdout=subprocess.PIPE, stderr=complaints) as tar,
        ):
            assert tar.stdout is not None
            try:
                found = self._stream(tar.stdout)
            except BaseException:
                tar.kill()
                raise
            tar.wait()
            complaints.seek(0)
            said = complaints.read(BLOCK).decode("utf-8", "replace").strip().splitlines()
        if tar.returncode != 0:
            raise InnkeeperError(f"cannot read {path}: {said[0] if said else 'tar gave up'}")
        return found

    def _stream(self, stream: Source) -> tuple[Descriptor, str]:
        peeked = Peeked(stream, self.recorder.check)
        if not peeked.start:
            raise InnkeeperError("cannot unpack the archive: there is nothing in it")
        try:
            return self._layer(peeked)
        except Malformed as error:
            raise Malformed(f"cannot unpack the archive: {error.message}") from None

    def _layer(self, peeked: Peeked) -> tuple[Descriptor, str]:
        is_kept = peeked.compression in ("", "gzip", "zstd")
        source = peeked if is_kept else plain(peeked, peeked.compression)
        with self.store.blobs.ingest() as ingest:
            self._copy(source, ingest)
            digest = ingest.commit()
        self.taken.blobs.add(digest)
        media_type = layer_type(peeked.start) if is_kept else LAYER
        with self.store.blobs.open(digest) as blob:
            if not plain(blob, layer_compression(media_type)).read(512).strip(b"\0"):
                raise InnkeeperError("the archive is empty: no root file system in it")
        with self.store.blobs.open(digest) as blob:
            diff_id = diff_id_of(blob, media_type, self.recorder.check)
        return Descriptor(media_type, digest, self.store.blobs.size(digest)), diff_id

    def _copy(self, source: Source, ingest: Ingest) -> None:
        while block := source.read(BLOCK):
            ingest.write(block)
            self.recorder.progress(Progress("archive", "reading", ingest.offset, None))
        self.recorder.progress(Progress("archive", "done", ingest.offset, ingest.offset))


def _tar_command(path: str) -> list[str]:
    return ["tar", "-C", path, "--sort=name", "--format=posix", "--numeric-owner", "--xattrs", "--xattrs-include=*",
            "--one-file-system", "--pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f",
            "-c", "."]  # fmt: skip


def import_image(store: ImageStore, name: str, source: str | BinaryIO, recorder: Recorder) -> Image:
    """Make an image of a folder, a tar file or an open tar stream; a failure leaves nothing behind.

    Raises AlreadyExists, NotFound (no such file), UsageError (the name), InnkeeperError (not a root file system).
    """
    wanted = parse_name(name)
    if str(wanted) in store.names():
        raise AlreadyExists(f"there is an image {name} already", hint=f"remove it first: inn image rm {name}")
    if isinstance(source, str) and os.path.isdir(source) and not os.listdir(source):
        raise UsageError(f"{source} is empty: no root file system in it")
    with taking(store) as taken:
        try:
            layer, diff_id = recorder.run(TakeIn(store, source, recorder, taken))
            chain_id = store.unpack_layer(layer, diff_id, "", recorder, taken)
            shell = ["/bin/sh"] if rootfs.has(store.layers.folder(chain_id), "/bin/sh") else []
            data = dump(_config(diff_id, shell, source))
            config = Descriptor(CONFIG, store.blobs.put(data), len(data))
            taken.blobs.add(config.digest)
            image = store.put_parts(config, [layer], [str(wanted)], recorder, taken=taken)
        except OSError as error:
            raise InnkeeperError(f"cannot import {name}: {error.strerror or error}") from error
    return as_image(store, image, str(wanted))


def _config(diff_id: str, command: list[str], source: str | BinaryIO) -> dict[str, object]:
    now = time_text(time.time())
    name = os.path.basename(source.rstrip("/")) if isinstance(source, str) else "a stream"
    return {
        **Platform.here().to_json(),
        "created": now,
        "config": {"Cmd": command} if command else {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": now, "created_by": f"# import {name}", "comment": f"Imported from {name}"}],
    }
