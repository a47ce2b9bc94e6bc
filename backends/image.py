"""What every layer agrees that an image is, and what may be asked of images.

The words are those of the OCI image specification (github.com/opencontainers/image-spec).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from backends.container import Secret


@dataclass(frozen=True, slots=True)
class Image:
    """Something a container can be made from."""

    name: str
    """"busybox:1.36", "registry.example:5000/team/app:2"; its short id where no name is left."""

    id: str
    """Digest of its configuration, "sha256:…"; an id of the backend's own where it has none."""

    created_s: float | None = None
    """Seconds since the epoch."""

    size_bytes: int | None = None
    """On disk with all its layers, those that others share too; None where unknown."""

    layers: int = 1
    note: str = ""
    digest: str = ""
    """Digest of its manifest, which a registry knows it by; empty where it has none."""

    platform: str = ""
    """"linux/amd64", "linux/arm64/v8"; empty where unknown."""

    own_bytes: int | None = None
    """What removing it would free; None where unknown."""

    users: tuple[str, ...] = ()
    """Names of the guests made from it."""

    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_dangling(self) -> bool:
        """True if no name is left of it."""
        return self.id.startswith("sha256:") and self.name == short_id(self.id)


def short_id(digest: str) -> str:
    """Return the first 12 digits of a digest, as docker shows ids."""
    return digest.removeprefix("sha256:")[:12]


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """One step of an image's history, oldest first; most have a layer (config.md, "history")."""

    created_by: str
    """The command that made it. Other people's text."""

    created_s: float | None = None
    digest: str = ""
    """Of the blob as it is transferred; empty where the step made no layer."""

    diff_id: str = ""
    """Of the layer's tar, not compressed."""

    size_bytes: int = 0
    """On disk, unpacked; 0 where the step made no layer."""

    blob_bytes: int = 0
    """As it is transferred, compressed."""

    comment: str = ""
    images: int = 1
    """How many images have this layer."""


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """Which images are to go."""

    all: bool = False
    """Those with names too that no guest uses; else only those without a name, and what no image has."""

    build_cache: bool = False
    """What builds could use again, too."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, or would be."""

    images: tuple[str, ...] = ()
    """Names, or short ids where they had none."""

    layers: int = 0
    blobs: int = 0
    freed_bytes: int = 0
    """On disk."""

    caches: int = 0
    """Folders that builds kept for `RUN --mount=type=cache`."""


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """How an image is fetched from or sent to a registry."""

    platform: str = ""
    """"linux/arm64"; empty: this host's."""

    plain_http: bool = False
    """Without TLS; else only where the settings name the registry as insecure."""

    tls_verify: bool = True
    ca_file: str = ""
    """Certificates to trust besides the system's, PEM."""

    auth_file: str = ""
    """In the format of docker's config.json; empty: where docker and podman look for it."""

    credentials: tuple[str, str] | None = field(default=None, repr=False)
    """(user, password); else those of the auth file."""

    compression: str = "gzip"
    """Of layers that are pushed and have no compressed form yet: "gzip" or "zstd"."""

    all_platforms: bool = False
    """Push an index of all images that are here of the index that this one came from."""


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """How a guest becomes an image."""

    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    """Instructions of a Dockerfile that change the configuration: "CMD [\\"sh\\"]", "ENV A=b"."""

    pause: bool = True
    """Hold it still meanwhile."""


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """What is to be built."""

    context: str
    """Folder that COPY and ADD read from."""

    dockerfile: str = ""
    """Path of the Dockerfile; empty: Dockerfile or Containerfile in the context."""

    names: tuple[str, ...] = ()
    """What the image is to be called; empty: it gets none."""

    target: str = ""
    """The stage to end with; empty: the last."""

    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    pull: bool = False
    """Ask the registry for base images even if they are here."""

    network: str = "bridge"
    """Of RUN."""

    platform: str = ""
    transfer: TransferOptions = field(default_factory=TransferOptions)
    secrets: tuple[Secret, ...] = ()
    """For RUN --mount=type=secret, by their names. Only what the mount asks for counts besides."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """One path that differs between a guest and what it was made from, or between two snapshots."""

    kind: str
    """"A" added, "C" changed, "D" deleted: docker's letters."""

    path: str
    """Absolute in the guest. Other people's text."""

    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """A guest's files and settings, kept to make guests from; it does not run itself."""

    name: str
    created_s: float
    image: str = ""
    size_bytes: int | None = None
    """Of its own layer, without the image's."""

    guests: tuple[str, ...] = ()
    """Names of the guests made from it, which still need it."""
