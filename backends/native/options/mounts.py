"""All mounts of a container: the system's own, the image's, generated files, and the user's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends.container import ContainerSpec
from backends.errors import UsageError
from backends.native.options.volumes import bind, parse_mount, parse_tmpfs, parse_volume, place_in
from backends.native.rootless import has_group

Mount = dict[str, Any]

_SHM_BYTES = 64 << 20
_PLAIN = ["nosuid", "noexec", "nodev"]


def mounts(
    asked: ContainerSpec, of_image: Sequence[Mount], files: Mapping[str, str], volumes: Mapping[str, str]
) -> list[Mount]:
    """Return the mounts in their order. files maps paths in the container to what is bound there, programs read-only.

    volumes maps the places of volumes, named ones and the container's own, to their folders. What the user mounts comes
    in the place of ours at the same path. Raises UsageError.
    """
    own = [_of_volume(asked, mount, volumes) for mount in user_mounts(asked)]
    taken = {mount["destination"] for mount in own}
    ours = [*_system(asked), *of_image, *(_file(asked, path, source) for path, source in files.items())]
    kept = [mount for mount in ours if not _is_replaced(mount["destination"], taken)]
    return kept + own


def user_mounts(asked: ContainerSpec) -> list[Mount]:
    """Return the volumes and memory file systems asked for, outer folders first. Raises UsageError."""
    found = [_own(text) if text.count(":") == 0 else parse_volume(text) for text in asked.volumes]
    found += [parse_mount(text) for text in asked.mounts]
    found += [parse_tmpfs(text) for text in asked.tmpfs]
    for mount in found:
        if asked.userns == "host" and {"idmap", "ridmap"} & set(mount["options"]):
            raise UsageError(f"mount {mount['destination']}: idmap needs users of its own: --userns auto")
    places = [mount["destination"] for mount in found]
    for place in places:
        if places.count(place) > 1:
            raise UsageError(f"two mounts are asked for at {place}")
    return sorted(found, key=lambda mount: mount["destination"].count("/"))


def own_volumes(asked: ContainerSpec) -> list[str]:
    """Return the places of the volumes that are the container's own. Raises UsageError."""
    return [mount["destination"] for mount in user_mounts(asked) if not mount["source"] and not mount.get("volume")]


@dataclass(frozen=True, slots=True)
class NamedVolume:
    """A volume with a name, as a container is to have it."""

    name: str
    place: str
    is_filled: bool
    """It begins with what the image has there."""


def named_volumes(asked: ContainerSpec) -> list[NamedVolume]:
    """Return the named volumes asked for, outer places first. Raises UsageError."""
    found = [mount for mount in user_mounts(asked) if mount.get("volume")]
    return [NamedVolume(mount["volume"], mount["destination"], not mount["nocopy"]) for mount in found]


def _of_volume(asked: ContainerSpec, mount: Mount, volumes: Mapping[str, str]) -> Mount:
    if mount["source"]:
        return mount
    plain = bind(mount["destination"], volumes[mount["destination"]], mount["options"])
    return plain | {"options": [*mount["options"], *_mapped(asked)]}


def root_propagation(mounts: Sequence[Mount]) -> str | None:
    """Return what the container's root must be for its volumes to be shared or slaves; None: it stays private."""
    given = {option for mount in mounts for option in mount["options"]}
    if given & {"shared", "rshared"}:
        return "shared"
    return "rslave" if given & {"slave", "rslave"} else None


def _own(text: str) -> Mount:
    """Return a volume without a source, which is a folder beside the container's record."""
    return bind(place_in(f"volume {text!r}", text), "", ["bind", "rprivate", "rw"])


def _file(asked: ContainerSpec, path: str, source: str) -> Mount:
    access = "rw" if path.startswith("/etc/") else "ro"
    return bind(path, source, ["bind", "rprivate", access, *_mapped(asked)])


def _mapped(asked: ContainerSpec) -> list[str]:
    """On disk it is root's; where root of the container is another, he is to own it all the same."""
    return ["idmap"] if asked.userns == "auto" and os.geteuid() == 0 else []


def _is_replaced(place: str, taken: set[str]) -> bool:
    return place in taken or ("/dev" in taken and place.startswith("/dev/"))


def _system(asked: ContainerSpec) -> list[Mount]:
    access = [] if asked.privileged else ["ro"]
    tty = ["gid=5"] if has_group(5) else []  # a plain user may have one group only
    return [
        _mount("/proc", "proc", "proc", _PLAIN),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "mode=755", "size=64k"]),
        _mount("/dev/pts", "devpts", "devpts",
               ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *tty]),
        *_ipc(asked),
        _sys(asked, access),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*_PLAIN, "relatime", *access]),
    ]  # fmt: skip


def _ipc(asked: ContainerSpec) -> list[Mount]:
    queues = _mount("/dev/mqueue", "mqueue", "mqueue", _PLAIN)  # of the ipc namespace, whosever that is
    if asked.ipc_mode == "host":
        return [bind("/dev/shm", "/dev/shm"), queues]
    size = asked.shm_bytes or _SHM_BYTES
    return [_mount("/dev/shm", "tmpfs", "shm", [*_PLAIN, "mode=1777", f"size={size >> 10}k"]), queues]


def _sys(asked: ContainerSpec, access: Sequence[str]) -> Mount:
    if asked.network == "host" and asked.userns != "host":
        # sysfs belongs to a network namespace, and only its owner may mount it.
        return bind("/sys", "/sys", ["rbind", "rprivate", *_PLAIN, "rro"])
    return _mount("/sys", "sysfs", "sysfs", [*_PLAIN, *access])


def _mount(destination: str, fstype: str, source: str, options: Sequence[str]) -> Mount:
    return {"destination": destination, "type": fstype, "source": source, "options": list(options)}
