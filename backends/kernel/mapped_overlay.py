"""An overlay whose layers show mapped owners, made for a container with a user namespace.

The layers belong to the host's ids. Mapped copies of their mounts are stacked, so nothing has to be copied or
changed on disk; what the container writes has its own ids. Linux 5.19.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from backends.errors import Unsupported
from backends.kernel import idmap, linux
from backends.kernel import mount_calls as calls
from backends.kernel.idmap import IdRange
from backends.kernel.mounts import KernelStep, MountOverlay


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


def open_overlay(lower: Sequence[str], upper: str, work: str, uids: Sequence[IdRange], gids: Sequence[IdRange]) -> int:
    """Return a descriptor of the overlay, attached nowhere; the caller's to close. Needs the host's rights.

    Raises Unsupported where the kernel or the layers' file system cannot map owners.
    """
    root_uid, root_gid = _root_of(uids), _root_of(gids)
    found = os.stat(upper)
    if (found.st_uid, found.st_gid) != (root_uid, root_gid):
        os.chown(upper, root_uid, root_gid)  # its owner is that of / inside
    space = idmap.user_namespace(uids, gids)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _make(theirs, lower, upper, work, space)
    theirs.close()
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


def _make(sync: socket.socket, lower: Sequence[str], upper: str, work: str, space: int) -> None:
    """Run in the child: in mounts of its own, attach mapped copies of the layers and stack them."""
    try:
        try:
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount("", "/", "", linux.MS_PRIVATE | linux.MS_REC)
            trees = [idmap.open_mapped(path, space, recursive=False, map_below=False) for path in lower]
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
