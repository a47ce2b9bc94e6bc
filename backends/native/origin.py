"""What a container is made from: an image, or another container or template, whose layers it shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from backends.native import rootless, volumes
from backends.native.images.image import ImageConfig
from backends.native.record import ContainerRecord


@dataclass(frozen=True, slots=True)
class Origin:
    """Layers, and what else does not follow from what was asked for."""

    image: str
    """Name of the image that it all began with."""

    image_id: str
    layers: list[str]
    """Folders, top first."""

    mounts: list[dict[str, Any]]
    """OCI mounts that every container of the image gets."""

    exposed: list[str] = field(default_factory=list)
    volumes: str = ""
    """The folder of the container or template whose volumes are copied; empty: they are filled from the layers."""

    name: str = ""
    """A container without a name gets this one with a number."""

    template: str = ""

    @classmethod
    def of_image(cls, image: ImageConfig) -> Origin:
        """A container of an image."""
        return cls(image.name, image.id, image.layers, image.mounts, image.exposed_ports)

    def fill(self, folder: str, record: ContainerRecord) -> None:
        """Make the volumes of a new container in its folder. Raises InnkeeperError."""
        if not record.volumes:
            return
        if self.volumes:
            volumes.copy(self.volumes, folder)
        else:
            volumes.make(folder, record.volumes, self.layers, in_userns=rootless.is_inside())
