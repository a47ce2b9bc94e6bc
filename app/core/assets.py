"""Commands on what guests are made from and hang on: images, builds, templates, networks, volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from app.core.command import Argument, Command
from backends import assets
from backends.errors import AlreadyExists
from backends.image import (
    BuildSpec,
    CommitOptions,
    Image,
    Pruned,
    PruneOptions,
    Template,
    TransferOptions,
)
from backends.model import Guest, GuestRef
from backends.network import Attachment, Network, NetworkSpec
from backends.trace import Recorder
from backends.volume import Volume, VolumeSpec


def _image_import(backend: assets.Images, recorder: Recorder, name: str, source: str | BinaryIO) -> Image:
    return backend.image_import(name, source, recorder)


def _image_remove(backend: assets.Images, recorder: Recorder, name: str, force: bool) -> None:
    backend.image_remove(name, recorder, force=force)


def _image_tag(backend: assets.ImageKeeping, recorder: Recorder, name: str, new_name: str) -> None:
    backend.image_tag(name, new_name, recorder)


def _image_load(backend: assets.ImageKeeping, recorder: Recorder, source: str | BinaryIO) -> Sequence[Image]:
    return backend.image_load(source, recorder)


def _image_save(
    backend: assets.ImageKeeping, recorder: Recorder, names: Sequence[str], target: BinaryIO | str, format: str
) -> None:
    if not isinstance(target, str):
        backend.image_save(names, target, recorder, format=format)
        return
    path = Path(target)
    try:
        with path.open("xb") as file:
            backend.image_save(names, file, recorder, format=format)
    except FileExistsError as error:
        raise AlreadyExists(f"cannot save to {target}: there is such a file") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _image_prune(backend: assets.ImageKeeping, recorder: Recorder, options: PruneOptions, dry_run: bool) -> Pruned:
    return backend.image_prune(options, recorder, dry_run=dry_run)


def _image_pull(backend: assets.Transferring, recorder: Recorder, name: str, options: TransferOptions) -> Image:
    return backend.image_pull(name, options, recorder)


def _image_push(backend: assets.Transferring, recorder: Recorder, name: str, options: TransferOptions) -> str:
    return backend.image_push(name, options, recorder)


def _image_build(backend: assets.Building, recorder: Recorder, spec: BuildSpec) -> Image:
    return backend.build(spec, recorder)


def _commit(backend: assets.Committing, ref: GuestRef, recorder: Recorder, name: str, options: CommitOptions) -> Image:
    return backend.commit(ref, name, options, recorder)


def _clone(backend: assets.Cloning, ref: GuestRef, recorder: Recorder, name: str | None, snapshot: str | None) -> Guest:
    return backend.clone(ref, name, recorder, snapshot=snapshot)


def _template_create(backend: assets.Templating, ref: GuestRef, recorder: Recorder, name: str) -> Template:
    return backend.template_create(ref, name, recorder)


def _template_use(backend: assets.Templating, recorder: Recorder, template: str, name: str | None) -> Guest:
    return backend.template_use(template, name, recorder)


def _template_remove(backend: assets.Templating, recorder: Recorder, name: str) -> None:
    backend.template_remove(name, recorder)


def _network_create(backend: assets.Networks, recorder: Recorder, spec: NetworkSpec) -> Network:
    return backend.network_create(spec, recorder)


def _network_remove(backend: assets.Networks, recorder: Recorder, name: str) -> None:
    backend.network_remove(name, recorder)


def _network_connect(backend: assets.Networks, ref: GuestRef, recorder: Recorder, how: Attachment) -> None:
    backend.network_connect(ref, how, recorder)


def _network_disconnect(backend: assets.Networks, ref: GuestRef, recorder: Recorder, network: str) -> None:
    backend.network_disconnect(ref, network, recorder)


def _volume_create(backend: assets.Volumes, recorder: Recorder, spec: VolumeSpec) -> Volume:
    return backend.volume_create(spec, recorder)


def _volume_remove(backend: assets.Volumes, recorder: Recorder, name: str) -> None:
    backend.volume_remove(name, recorder)


def _volume_prune(backend: assets.Volumes, recorder: Recorder, dry_run: bool) -> Sequence[str]:
    return backend.volume_prune(recorder, dry_run=dry_run)


def _volume_size(backend: assets.Volumes, recorder: Recorder, name: str) -> int:
    return backend.volume_size(name, recorder)


def _yes(text: str) -> bool:
    return text.strip().lower() in ("1", "yes", "true", "on")


_IMAGE = Argument("name", str, "Name of the image.", required=True)
_IMAGE_NAME = Argument("name", str, "Name of the new image.", default="")
_SOURCE = Argument("source", str, "Folder or tar archive with a root file system.", required=True)
_ARCHIVE = Argument("source", str, "Archive or folder with images.", required=True)
_FORCE = Argument("force", _yes, "All its names, whatever refers to it.", default=False, option="--force")
_TRANSFER = Argument("options", lambda text: TransferOptions(), "How it is transferred.", default=TransferOptions())
_TEMPLATE = Argument("template", str, "Name of the template.", required=True)
_GUEST_NAME = Argument("name", str, "Name of the new guest.")
_VOLUME = Argument("name", str, "Name of the volume.", required=True)
_NETWORK = Argument("network", str, "Name of the network.", required=True)

ASSETS: tuple[Command, ...] = (
    Command(
        "image.import", "image import", "Import image", "Make an image from a root file system.", "",
        assets.Images, _image_import, arguments=(_IMAGE, _SOURCE), needs_guest=False,
    ),
    Command(
        "image.remove", "image rm", "Remove image", "Remove an image that no container uses.", "D,delete",
        assets.Images, _image_remove, destructive=True, arguments=(_IMAGE, _FORCE), needs_guest=False,
    ),
    Command(
        "image.tag", "image tag", "Tag image", "Give an image a further name.", "t",
        assets.ImageKeeping, _image_tag, needs_guest=False,
        arguments=(_IMAGE, Argument("new_name", str, "The further name.", required=True)),
    ),
    Command(
        "image.load", "image load", "Load images", "Take images from an archive.", "l",
        assets.ImageKeeping, _image_load, arguments=(_ARCHIVE,), needs_guest=False,
    ),
    Command(
        "image.save", "image save", "Save images", "Write images to an archive.", "w",
        assets.ImageKeeping, _image_save, needs_guest=False,
        arguments=(
            Argument("names", str.split, "Names of the images.", required=True),
            Argument("target", str, "Open file that it is written to, or the path of a new one.", required=True),
            Argument("format", str, "docker or oci.", default="docker", option="--format"),
        ),
    ),
    Command(
        "image.prune", "image prune", "Prune images", "Remove images and layers that nobody uses.", "X",
        assets.ImageKeeping, _image_prune, destructive=True, needs_guest=False,
        arguments=(
            Argument("options", lambda text: PruneOptions(all=_yes(text)), "What is to go.", default=PruneOptions()),
            Argument("dry_run", _yes, "Only say what would go.", default=False, option="--dry-run"),
        ),
    ),
    Command(
        "image.pull", "image pull", "Pull image", "Fetch an image from its registry.", "p",
        assets.Transferring, _image_pull, arguments=(_IMAGE, _TRANSFER), needs_guest=False,
    ),
    Command(
        "image.push", "image push", "Push image", "Send an image to its registry.", "P",
        assets.Transferring, _image_push, arguments=(_IMAGE, _TRANSFER), needs_guest=False,
    ),
    Command(
        "image.build", "build", "Build image", "Build an image from a Dockerfile.", "B",
        assets.Building, _image_build, needs_guest=False,
        arguments=(Argument("spec", BuildSpec, "Folder with a Dockerfile.", required=True),),
    ),
    Command(
        "guest.commit", "commit", "Commit", "Make an image of what a guest has changed.", "I",
        assets.Committing, _commit,
        arguments=(
            _IMAGE_NAME,
            Argument("options", lambda text: CommitOptions(message=text), "How.", default=CommitOptions()),
        ),
    ),
    Command(
        "guest.clone", "clone", "Clone", "Make a guest like this one, which shares its files.", "M",
        assets.Cloning, _clone,
        arguments=(_GUEST_NAME, Argument("snapshot", str, "From this snapshot.", option="--snapshot")),
    ),
    Command(
        "template.create", "template create", "Keep as template", "Keep a guest to make others from.", "K",
        assets.Templating, _template_create,
        arguments=(Argument("name", str, "Name of the template.", required=True),),
    ),
    Command(
        "template.use", "template use", "New from template", "Make a guest from a template.", "n",
        assets.Templating, _template_use, arguments=(_TEMPLATE, _GUEST_NAME), needs_guest=False,
    ),
    Command(
        "template.remove", "template rm", "Remove template", "Remove a template; guests made from it stay.", "D,delete",
        assets.Templating, _template_remove, destructive=True, needs_guest=False,
        arguments=(Argument("name", str, "Name of the template.", required=True),),
    ),
    Command(
        "network.create", "network create", "Create network", "Make a network.", "n",
        assets.Networks, _network_create, needs_guest=False,
        arguments=(Argument("spec", NetworkSpec, "Name of the network.", required=True),),
    ),
    Command(
        "network.remove", "network rm", "Remove network", "Remove a network that no guest is on.", "D,delete",
        assets.Networks, _network_remove, destructive=True, needs_guest=False,
        arguments=(Argument("name", str, "Name of the network.", required=True),),
    ),
    Command(
        "network.connect", "network connect", "Connect", "Put a guest on a further network, at once.", "w",
        assets.Networks, _network_connect,
        arguments=(Argument("how", Attachment, "Name of the network.", required=True),),
    ),
    Command(
        "network.disconnect", "network disconnect", "Disconnect", "Take a guest off a network, at once.", "W",
        assets.Networks, _network_disconnect, arguments=(_NETWORK,),
    ),
    Command(
        "volume.create", "volume create", "Create volume", "Make an empty volume.", "n",
        assets.Volumes, _volume_create, needs_guest=False,
        arguments=(Argument("spec", VolumeSpec, "Name of the volume.", required=True),),
    ),
    Command(
        "volume.remove", "volume rm", "Remove volume", "Remove a volume that no guest has, with its files.",
        "D,delete", assets.Volumes, _volume_remove, destructive=True, needs_guest=False, arguments=(_VOLUME,),
    ),
    Command(
        "volume.prune", "volume prune", "Prune volumes", "Remove all volumes that no guest has, with their files.",
        "X", assets.Volumes, _volume_prune, destructive=True, needs_guest=False,
        arguments=(Argument("dry_run", _yes, "Only say what would go.", default=False, option="--dry-run"),),
    ),
    Command(
        "volume.size", "volume size", "Size of volume", "Count what the files of a volume take on the disk.", "z",
        assets.Volumes, _volume_size, needs_guest=False, arguments=(_VOLUME,),
    ),
)  # fmt: skip
