"""What a backend can promise besides guests: images, builds, templates, networks, volumes. Companion of `base`.

A capability that a technology lacks is absent, never a method that raises. All methods block and raise only
InnkeeperErrors. What takes long tells `recorder.progress()` how far it is, and asks `recorder.check()` between
two pieces of work, which raises Cancelled when the user has had enough: nothing half made stays then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Protocol, runtime_checkable

from backends.image import (
    BuildSpec,
    CommitOptions,
    FileChange,
    Image,
    ImageLayer,
    Pruned,
    PruneOptions,
    Template,
    TransferOptions,
)
from backends.model import Guest, GuestRef
from backends.network import Attachment, Network, NetworkSpec
from backends.trace import Recorder
from backends.volume import Volume, VolumeSpec


@runtime_checkable
class Images(Protocol):
    """There is a store of images."""

    def images(self) -> Sequence[Image]:
        """Return all images."""
        ...

    def image_import(self, name: str, source: str | BinaryIO, recorder: Recorder) -> Image:
        """Make an image from a root file system: a folder, a tar (also compressed), or an open tar stream."""
        ...

    def image_remove(self, name: str, recorder: Recorder, *, force: bool = False) -> None:
        """Take a name from an image, and remove it with its last name. Raises Busy if a guest uses it, NotFound.

        With force all its names go, also those that are in the way of a removal by id.
        """
        ...


@runtime_checkable
class ImageKeeping(Protocol):
    """Images are kept as OCI content: by digest, with layers that they share."""

    def image_inspect(self, name: str) -> Mapping[str, Any]:
        """Return all that is known of an image, as JSON types. Raises NotFound.

        Has `names` and `config`: the `config` of its OCI image configuration ("Env", "Cmd", "ExposedPorts" …).
        """
        ...

    def image_history(self, name: str) -> Sequence[ImageLayer]:
        """Return how it was made, oldest step first."""
        ...

    def image_tag(self, name: str, new_name: str, recorder: Recorder) -> None:
        """Give an image a further name; one that another image has is taken from it, as docker does."""
        ...

    def image_load(self, source: str | BinaryIO, recorder: Recorder) -> Sequence[Image]:
        """Take images from an archive or a folder: docker-archive or OCI layout, also compressed."""
        ...

    def image_save(self, names: Sequence[str], target: BinaryIO, recorder: Recorder, *, format: str = "docker") -> None:
        """Write images as one archive; format: "docker" (docker-archive) or "oci" (OCI layout)."""
        ...

    def image_prune(self, options: PruneOptions, recorder: Recorder, *, dry_run: bool = False) -> Pruned:
        """Remove what nobody uses; with dry_run only say what that would be."""
        ...


@runtime_checkable
class Transferring(Protocol):
    """Images come from and go to registries (OCI distribution specification)."""

    def image_pull(self, name: str, options: TransferOptions, recorder: Recorder) -> Image:
        """Fetch an image; only what is not here is transferred. Raises NotFound, PermissionDenied."""
        ...

    def image_push(self, name: str, options: TransferOptions, recorder: Recorder) -> str:
        """Send an image; only what is not there is transferred. Returns the digest of its manifest."""
        ...


@runtime_checkable
class LoggingIn(Protocol):
    """Credentials for registries are kept, where docker and podman find them too."""

    def registry_login(self, registry: str, options: TransferOptions) -> str:
        """Check options.credentials at the registry and keep them; return the file. Raises PermissionDenied."""
        ...

    def registry_logout(self, registry: str, options: TransferOptions) -> Sequence[str]:
        """Forget the credentials for a registry; return the files they were in."""
        ...


@runtime_checkable
class Building(Protocol):
    """Images are built from Dockerfiles."""

    def build(self, spec: BuildSpec, recorder: Recorder) -> Image:
        """Build; what each step prints goes to recorder.say(). Raises UsageError with the line of the Dockerfile."""
        ...


@runtime_checkable
class Committing(Protocol):
    """A guest's files can become an image, and be compared with the one it was made from."""

    def commit(self, ref: GuestRef, name: str, options: CommitOptions, recorder: Recorder) -> Image:
        """Make an image of what the guest has changed; an empty name: it gets none."""
        ...

    def changes(self, ref: GuestRef) -> Sequence[FileChange]:
        """Return what differs from its image, by path."""
        ...


@runtime_checkable
class SnapshotComparing(Protocol):
    """Snapshots can be compared."""

    def snapshot_diff(self, ref: GuestRef, name: str, other: str | None = None) -> Sequence[FileChange]:
        """Return what differs between a snapshot and another one, or the present state (None), by path."""
        ...


@runtime_checkable
class Cloning(Protocol):
    """Guests can be made from guests, and share with them what did not change."""

    def clone(self, ref: GuestRef, name: str | None, recorder: Recorder, *, snapshot: str | None = None) -> Guest:
        """Make a guest like another, not started, from its present files or those of a snapshot."""
        ...


@runtime_checkable
class Templating(Protocol):
    """Guests can be kept as templates."""

    def templates(self) -> Sequence[Template]:
        """Return all templates."""
        ...

    def template_create(self, ref: GuestRef, name: str, recorder: Recorder) -> Template:
        """Keep a guest's files and settings as a template. Raises AlreadyExists."""
        ...

    def template_use(self, template: str, name: str | None, recorder: Recorder) -> Guest:
        """Make a guest from a template, not started. Raises NotFound."""
        ...

    def template_remove(self, name: str, recorder: Recorder) -> None:
        """Remove a template; guests made from it stay whole."""
        ...


@runtime_checkable
class Networks(Protocol):
    """Guests can be put on networks."""

    def networks(self) -> Sequence[Network]:
        """Return all networks with their members."""
        ...

    def network_create(self, spec: NetworkSpec, recorder: Recorder) -> Network:
        """Make a network. Raises AlreadyExists, UsageError (subnets that overlap …)."""
        ...

    def network_remove(self, name: str, recorder: Recorder) -> None:
        """Remove a network. Raises Busy if a guest is on it."""
        ...

    def network_connect(self, ref: GuestRef, how: Attachment, recorder: Recorder) -> None:
        """Put a guest on a further network, at once if it is live."""
        ...

    def network_disconnect(self, ref: GuestRef, network: str, recorder: Recorder) -> None:
        """Take a guest off a network, at once if it is live."""
        ...


@runtime_checkable
class Volumes(Protocol):
    """There are named volumes: files that outlive the guests that use them."""

    def volumes(self) -> Sequence[Volume]:
        """Return all named volumes with the guests that have them, without their sizes."""
        ...

    def volume_create(self, spec: VolumeSpec, recorder: Recorder) -> Volume:
        """Make an empty volume. Raises AlreadyExists, UsageError."""
        ...

    def volume_remove(self, name: str, recorder: Recorder) -> None:
        """Remove a volume with all its files. Raises NotFound, and Busy, which names the guests that have it."""
        ...

    def volume_prune(self, recorder: Recorder, *, dry_run: bool = False) -> Sequence[str]:
        """Remove all that no guest has; return their names. With dry_run only say which those are."""
        ...

    def volume_size(self, name: str, recorder: Recorder) -> int:
        """Return what its files take on the disk, in bytes; walks through all of them. Raises NotFound."""
        ...
