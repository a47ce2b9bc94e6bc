"""An overlay by fuse-overlayfs(1), for a plain user on a kernel that lets only root stack layers (before 5.11)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from backends.errors import Unsupported
from backends.kernel import linux
from backends.kernel import mount_calls as calls
from backends.kernel.mounts import MountOverlay

_START_S = 20.0


def is_needed() -> bool:
    """Say whether the kernel's own overlay is root's alone."""
    major, minor = os.uname().release.split("-")[0].split(".")[:2]
    return (int(major), int(minor)) < (5, 11)


def open_overlay(lower: Sequence[str], upper: str, work: str, place: str) -> int:
    """Return a descriptor of the overlay, attached nowhere; the caller's to close. Raises Unsupported.

    place is an empty folder that is mounted on for a moment, where nobody else sees it.

    The process behind it is adopted by the nearest subreaper above, and ends when nobody has the mount any more.
    """
    program = shutil.which("fuse-overlayfs")
    if program is None:
        text = "this kernel lets only root stack the layers of an image, and fuse-overlayfs is not installed"
        raise Unsupported(text, hint="apt install fuse-overlayfs, or boot Linux 5.11 or newer")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _make(theirs, [program, "-o", MountOverlay(tuple(lower), upper, work, place).data, place])
    theirs.close()
    with ours:
        answer, fds, _, _ = socket.recv_fds(ours, 4096, 1, socket.MSG_CMSG_CLOEXEC)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
    if not fds:
        said = answer.decode("utf-8", "replace") or "the process that makes it is gone"
        raise Unsupported(f"fuse-overlayfs cannot stack the layers of the image: {said}")
    return fds[0]


def _make(sync: socket.socket, command: list[str]) -> None:
    """Run in the child: mount it where nobody sees it, and send the mount."""
    try:
        try:
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount("", "/", "", linux.MS_SLAVE | linux.MS_REC)
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_START_S)
            if done.returncode != 0:
                sync.send((done.stderr.strip() or f"exit code {done.returncode}").encode()[:4000])
            else:
                tree = calls.open_tree(command[-1])
                # Its process lives in these mounts, and would hold its own mount for ever.
                linux.umount(command[-1], linux.MNT_DETACH)
                socket.send_fds(sync, [b"overlay"], [tree])
        except (OSError, subprocess.SubprocessError) as error:
            sync.send(str(error).encode()[:4000])
    finally:
        os._exit(0)
