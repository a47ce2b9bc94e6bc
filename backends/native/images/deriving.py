"""The config of an image that is another one with one more step."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any, Protocol

from backends.native.images.config import time_text
from backends.native.images.platforms import Platform
from backends.native.images.stored import StoredImage


class Packed(Protocol):
    """A layer as a blob: what layers.pack gives."""

    @property
    def digest(self) -> str: ...
    @property
    def diff_id(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def media_type(self) -> str: ...


def further_config(
    parent: StoredImage | None, layer: Packed | None, changes: Mapping[str, Any], history: Mapping[str, Any]
) -> dict[str, Any]:
    now = time_text(time.time())
    if parent is None:
        raw: dict[str, Any] = {**Platform.here().to_json(), "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
    else:
        raw = copy.deepcopy(dict(parent.config.raw))
    for key in ("container", "container_config", "docker_version", "id", "parent"):
        raw.pop(key, None)  # of docker's old builder, about the container that the parent was made in
    inner = {**(raw.get("config") or {}), **changes}
    raw["config"] = {key: value for key, value in inner.items() if value is not None}
    step = {"created": now, **history}
    if layer is None:
        step["empty_layer"] = True
    else:
        raw["rootfs"]["diff_ids"] = [*(raw["rootfs"].get("diff_ids") or ()), layer.diff_id]
    raw["created"] = step["created"]
    raw["history"] = [*(raw.get("history") or ()), step]
    if step.get("author"):
        raw["author"] = step["author"]
    return raw
