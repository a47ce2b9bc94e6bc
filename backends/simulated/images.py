"""Images of simulated containers: a name and a size, taken from a real root file system."""

from __future__ import annotations

import hashlib
import os
from typing import BinaryIO

from backends.errors import AlreadyExists, NotFound, UsageError
from backends.image import Image
from backends.simulated.world import World


def read_image(name: str, source: str | BinaryIO, world: World) -> Image:
    """Measure the source and keep it as an image. Raises AlreadyExists, NotFound, UsageError."""
    if not name:
        raise UsageError("an image needs a name")
    if name in world.images:
        raise AlreadyExists(f"there is already an image {name!r}")
    size_bytes = _folder_size(source) if isinstance(source, str) else len(source.read())
    image = Image(name, hashlib.sha256(name.encode()).hexdigest(), world.now().epoch_s, size_bytes)
    world.images[name] = image
    return image


def _folder_size(path: str) -> int:
    if os.path.isfile(path):
        return os.path.getsize(path)
    if not os.path.isdir(path):
        raise NotFound(f"cannot read {path}: no such file or folder")
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)
