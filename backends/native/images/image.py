"""What a container takes from an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from backends.native.record import _Json


@dataclass(frozen=True)
class ImageConfig(_Json):
    """An image: its layers, and what a container of it is by default."""

    name: str
    id: str
    """Digest of its config; "host" for the built-in image."""

    created_s: float
    layers: list[str]
    """Folders, top first."""

    size_bytes: int | None = None
    command: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    cwd: str = ""
    mounts: list[dict[str, Any]] = field(default_factory=list)
    """OCI mounts that every container of it gets (the host image binds /usr)."""

    note: str = ""
    entrypoint: list[str] = field(default_factory=list)
    user: str = ""
    stop_signal: str = ""
    volumes: list[str] = field(default_factory=list)
    """Folders that are to be volumes of each container's own."""

    exposed_ports: list[str] = field(default_factory=list)
    """"80/tcp" each."""

    labels: dict[str, str] = field(default_factory=dict)
    health: dict[str, Any] | None = None
    """As a HealthCheck's fields; see backends.container."""

    digest: str = ""
    """Of its manifest."""

    platform: str = ""
