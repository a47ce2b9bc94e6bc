"""One image as kept on disk (image.json)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from backends.native.record import _Json


@dataclass(frozen=True)
class ImageConfig(_Json):
    """An image: its layers, and what a container of it is by default."""

    name: str
    id: str
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
