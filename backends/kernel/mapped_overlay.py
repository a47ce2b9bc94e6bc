"""An overlay whose layers show mapped owners, made for a container with a user namespace.

The layers belong to the host's ids. Mapped copies of their mounts are stacked, so nothing has to be copied or
changed on disk; what the container writes has its own ids. Linux 5.19.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

from backends.errors import Unsupported
from backends.kernel import idmap, linux
from backends.kernel import mount_calls as calls
from backends.kernel.idmap import IdRange
from backends.kernel.mounts import KernelStep, MountOverlay

Owners = tuple[tuple[IdRange, ...], tuple[IdRange, ...]]
"""Users and groups of a user namespace: (inside, outside, how many) each."""


@dataclass(frozen=True, slots=True)
class MountMappedOverlay(KernelStep):
    """Put an overlay that open_overlay() has made in its place. Runs in init, which is root of its user namespace."""

    lower: tuple[str, ...]
    target: str
    fd: int = -1
    kind = "mount"

    def describe(self) -> str:
        many = "s" * (len(self.lower) > 1)
        return f"mount overlay of {len(self.lower)} layer{many}, made outside, on {self.target}"

    def run(self) -> None:
        place = os.open(self.target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            calls.attach(self.fd, place)
        finally:
            os.close(place)
            os.close(self.fd)


def open_overlay(
    lower: Sequence[str],
    upper: str,
    work: str,
    uids: Sequence[IdRange],
    gids: Sequence[IdRange],
    written_as: Mapping[str, Owners] = MappingProxyType({}),
) -> int:
    """Return a descriptor of the overlay, attached nowhere; the caller's to close. Needs the host's rights.

    written_as names the layers that a container with a user namespace wrote, and its ids: as ours, or another's.

    Raises Unsupported where the kernel or the layers' file system cannot map owners.
    """
    root_uid, root_gid = _root_of(uids), _root_of(gids)
    found = os.stat(upper)
    if (found.st_uid, found.st_gid) != (root_uid, root_gid):
        os.chown(upper, root_uid, root_gid)  # its owner is that of / inside
    spaces = _spaces(lower, (tuple(uids), tuple(gids)), written_as)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _make(theirs, [(path, spaces[written_as.get(path)]) for path in lower], upper, work)
    theirs.close()
    for space in spaces.values():
        if space is not None:
            os.close(space)
    with ours:
        answer, fds, _, _ = socket.recv_fds(ours, 4096, 1, socket.MSG_CMSG_CLOEXEC)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
    if not fds:
        said = answer.decode("utf-8", "replace") or "the process that makes it is gone"
        hint = "layers on ext4, xfs or btrfs and Linux 5.19 are needed, or: --userns host"
        raise Unsupported(f"cannot map the owners of the image: {said}", hint=hint)
    return fds[0]


def _root_of(ranges: Sequence[IdRange]) -> int:
    return next(outside for inside, outside, _ in ranges if inside == 0)


def _spaces(lower: Sequence[str], ours: Owners, written_as: Mapping[str, Owners]) -> dict[Owners | None, int | None]:
    """Return a user namespace for each kind of layer: the image's (None), and those written as somebody's."""
    found: dict[Owners | None, int | None] = {None: idmap.user_namespace(*ours)}
    for theirs in (written_as.get(path) for path in lower):
        if theirs is not None and theirs not in found:
            moved = [moved_ranges(*sides) for sides in zip(theirs, ours, strict=True)]
            found[theirs] = None if theirs == ours else idmap.user_namespace(*moved)
    return found


def moved_ranges(theirs: Sequence[IdRange], ours: Sequence[IdRange]) -> list[IdRange]:
    """Return the map from the ids on disk of who wrote a layer to the ids that we have for the same users inside."""
    found = []
    for inside, on_disk, count in theirs:
        for our_inside, outside, our_count in ours:
            first, end = max(inside, our_inside), min(inside + count, our_inside + our_count)
            if first < end:
                found.append((on_disk + first - inside, outside + first - our_inside, end - first))
    return found


def _make(sync: socket.socket, lower: Sequence[tuple[str, int | None]], upper: str, work: str) -> None:
    """Run in the child: in mounts of its own, attach mapped copies of the layers and stack them."""
    try:
        try:
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount("", "/", "", linux.MS_PRIVATE | linux.MS_REC)
            trees = [_open(path, space) for path, space in lower]
            # upper and work lie below a path that the next mount may hide, so they are used by descriptor.
            folders = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in (upper, work)]
            names = [f"/proc/self/fd/{fd}" for fd in folders]
            linux.mount("tmpfs", "/tmp", "tmpfs", 0, "mode=700")
            places = []
            for number, tree in enumerate(trees):
                places.append(f"/tmp/{number}")
                os.mkdir(places[-1])
                place = os.open(places[-1], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                calls.attach(tree, place)
                os.close(place)
            os.mkdir("/tmp/merged")
            MountOverlay(tuple(places), names[0], names[1], "/tmp/merged").run()
            socket.send_fds(sync, [b"overlay"], [calls.open_tree("/tmp/merged")])
        except OSError as error:
            sync.send((error.strerror or str(error)).encode()[:4000])
    finally:
        os._exit(0)


def _open(path: str, space: int | None) -> int:
    if space is None:  # its owners on disk are ours
        return calls.open_tree(path)
    return idmap.open_mapped(path, space, recursive=False, map_below=False)
