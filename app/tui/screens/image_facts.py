"""What the form that makes a container asks a backend about an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backends.assets import ImageKeeping, Images, Networks
from backends.base import Backend
from backends.errors import InnkeeperError


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image brings along, and names to offer."""

    config: Mapping[str, Any] | None
    """The image's configuration; None if it is not here."""

    images: list[str]
    networks: list[str]


def image_facts(backend: Backend, image: str) -> ImageFacts:
    """Ask for them; blocks. Raises InnkeeperError."""
    config: Mapping[str, Any] | None = None
    images = [each.name for each in backend.images()] if isinstance(backend, Images) else []
    networks = [each.name for each in backend.networks()] if isinstance(backend, Networks) else []
    if image and isinstance(backend, ImageKeeping):
        try:
            config = dict(backend.image_inspect(image).get("config") or {})
        except InnkeeperError:
            config = None  # it may be pulled yet
    return ImageFacts(config, images, networks)
