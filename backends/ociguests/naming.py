"""What the maker of a container calls it, as far as it can be told from the bundle and the maker's own files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NAMES = (
    "nerdctl/name",
    "io.kubernetes.cri.container-name",
    "io.kubernetes.cri-o.ContainerName",
    "io.kubernetes.container.name",
    "org.innkeeper.name",
)
_IMAGES = ("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "org.opencontainers.image.ref.name")
_MAX_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Naming:
    """Name, image and maker of a container."""

    name: str
    image: str | None = None
    maker: str = ""
    """"docker", "podman", "kubernetes" or nothing: made by hand."""


def naming_of(container_id: str, config: Mapping[str, Any], bundle: str) -> Naming:
    """Return the name that its maker shows, else the id."""
    annotations = config.get("annotations") or {}
    found = _of_docker(config) or _of_podman(container_id, annotations, bundle)
    if found is not None:
        return found
    name = next((annotations[key] for key in _NAMES if annotations.get(key)), container_id)
    image = next((annotations[key] for key in _IMAGES if annotations.get(key)), None)
    is_pod = any(key.startswith("io.kubernetes.") for key in annotations)
    return Naming(name, image, "kubernetes" if is_pod else "")


def _of_docker(config: Mapping[str, Any]) -> Naming | None:
    """dockerd puts /etc/hostname beside its own record of the container."""
    for mount in config.get("mounts") or ():
        source = str(mount.get("source", ""))
        if mount.get("destination") == "/etc/hostname" and os.path.basename(source) == "hostname":
            record = _json(f"{os.path.dirname(source)}/config.v2.json")
            if isinstance(record, dict) and record.get("Name"):
                image = (record.get("Config") or {}).get("Image")
                return Naming(str(record["Name"]).lstrip("/"), image, "docker")
    return None


def _of_podman(container_id: str, annotations: Mapping[str, str], bundle: str) -> Naming | None:
    """podman's bundles are ROOT/overlay-containers/ID/userdata, and containers.json lies two above."""
    if annotations.get("io.container.manager") != "libpod":
        return None
    records = _json(f"{os.path.dirname(os.path.dirname(bundle))}/containers.json")
    for record in records if isinstance(records, list) else ():
        if record.get("id") == container_id and record.get("names"):
            metadata = _parsed(record.get("metadata") or "{}")
            return Naming(str(record["names"][0]), metadata.get("image-name"), "podman")
    return Naming(container_id[:12], None, "podman")


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _json(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            return json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError):
        return None
