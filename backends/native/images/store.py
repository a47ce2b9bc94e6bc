"""The images of one state folder.

::

    STATE/images/host/          the built-in image (see host.py)
    STATE/images/NAME/          image.json and layer/, made by import
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from backends.errors import AlreadyExists, InnkeeperError, NotFound
from backends.image import Image
from backends.native.images import host, rootfs
from backends.native.images.image import ImageConfig
from backends.native.spec import check_name
from backends.trace import Recorder

_FILE = "image.json"


class ImageStore:
    """Images by name."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "images"

    def get(self, name: str) -> ImageConfig:
        """Return an image. Raises NotFound."""
        if name == host.NAME:
            return host.image(self._folder / host.NAME)
        try:
            return ImageConfig.from_json((self._folder / check_name(name) / _FILE).read_text())
        except FileNotFoundError:
            raise NotFound(f"there is no image {name}", hint="see: inn image ls; make one: inn image import") from None

    def all(self) -> list[Image]:
        """Return all images; the host image is always there."""
        found = [self.get(name) for name in sorted({host.NAME, *self._names()})]
        return [
            Image(name=image.name, id=image.id, created_s=image.created_s, size_bytes=image.size_bytes,
                  layers=len(image.layers), note=image.note)
            for image in found
        ]  # fmt: skip

    def import_(self, name: str, source: str | BinaryIO, recorder: Recorder) -> Image:
        """Make an image from a folder, a tar file or an open tar stream; a failure leaves nothing behind.

        Raises AlreadyExists, NotFound (no such file), InnkeeperError (not a root file system).
        """
        target = self._folder / check_name(name)
        if name == host.NAME or target.exists():
            raise AlreadyExists(f"there is an image {name} already", hint=f"remove it first: inn image rm {name}")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        image_id = secrets.token_hex(6)
        draft = self._folder / f".{image_id}"
        draft.mkdir(mode=0o700)
        try:
            layer = draft / "layer"
            layer.mkdir(mode=0o755)
            recorder.run(rootfs.UnpackRoot(source, str(layer)))
            note = source if isinstance(source, str) else "from a stream"
            image = ImageConfig(
                name=name,
                id=image_id,
                created_s=time.time(),
                layers=[str(target / "layer")],
                size_bytes=rootfs.size_of(layer),
                command=["/bin/sh"] if rootfs.has(layer, "/bin/sh") else [],
                note=f"imported: {os.path.basename(note.rstrip('/'))}",
            )
            (draft / _FILE).write_text(image.to_json())
            draft.rename(target)
        except OSError as error:
            raise InnkeeperError(f"cannot import {name}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return next(found for found in self.all() if found.name == name)

    def remove(self, name: str) -> None:
        """Remove an image. The caller has made sure that no container uses it. Raises NotFound."""
        if name == host.NAME:
            shutil.rmtree(self._folder / host.NAME, ignore_errors=True)
            return
        image = self.get(name)
        grave = self._folder / f".{image.id}"
        (self._folder / name).rename(grave)
        shutil.rmtree(grave)

    def half_made(self) -> list[Path]:
        """Return folders that a crash in import or remove left behind."""
        return [self._folder / name for name in self._names(hidden=True)]

    def _names(self, *, hidden: bool = False) -> Sequence[str]:
        try:
            return [name for name in os.listdir(self._folder) if name.startswith(".") is hidden]
        except FileNotFoundError:
            return []
