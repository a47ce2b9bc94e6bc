"""A process with the host's rights that makes mounts for an init in a user namespace.

Only the host's root may map the owners of a host's file system, and only it reaches every source. Such a mount
must come from init's own mount namespace all the same: there the flags of the host's mounts are locked, and the
mounts that init made before are in sight. So a helper is forked from the runtime, enters that namespace when
init asks, and hands back the mount's descriptor. It ends when nobody can ask any more.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from backends.kernel import idmap, linux
from backends.kernel import mount_calls as calls
from backends.kernel.descriptors import keep_only
from backends.kernel.idmap import IdRange

_ANSWER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Wanted:
    """One mount that the helper may be asked for."""

    source: str
    recursive: bool
    uids: tuple[IdRange, ...] = ()
    gids: tuple[IdRange, ...] = ()
    """How its owners are mapped; empty: not at all, unless userns_path is given."""

    userns_path: str = ""
    """A user namespace that has the maps, instead of uids and gids."""

    map_below: bool = False

    def open(self) -> int:
        """Return a descriptor of the mount, attached nowhere."""
        if not self.userns_path and not self.uids:
            return calls.open_tree(self.source, recursive=self.recursive)
        if self.userns_path:
            space = os.open(self.userns_path, os.O_RDONLY | os.O_CLOEXEC)
        else:
            space = idmap.user_namespace(self.uids, self.gids)
        try:
            return idmap.open_mapped(self.source, space, recursive=self.recursive, map_below=self.map_below)
        finally:
            os.close(space)


@dataclass(frozen=True, slots=True)
class HelpedTree:
    """A mount that the helper makes."""

    fd: int
    """Our end of its socket for this mount; closed when the tree has been opened."""

    is_mapped: bool
    """Whether its owners are mapped, which only the helper can do."""

    def open(self, source: str, *, recursive: bool) -> int:
        """Make the mount alone if that is possible, else ask for it; return its descriptor."""
        if not self.is_mapped:
            with suppress(PermissionError):
                tree = calls.open_tree(source, recursive=recursive)
                os.close(self.fd)
                return tree
        return self._ask()

    def _ask(self) -> int:
        with socket.socket(fileno=self.fd) as helper:
            ours = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            try:
                socket.send_fds(helper, [b"mount"], [ours])
            finally:
                os.close(ours)
            answer, fds, _, _ = socket.recv_fds(helper, _ANSWER_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        if fds:
            return fds[0]
        number, _, text = answer.decode("utf-8", "replace").partition(" ")
        raise OSError(int(number or errno.ECHILD), text or "the helper that makes this mount is gone")


def start(mounts: Mapping[int, Wanted]) -> dict[int, int]:
    """Fork a helper for these mounts, and return a descriptor for each (HelpedTree); the caller's to close."""
    pairs = {key: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for key in mounts}
    pid = os.fork()
    if pid == 0:
        _serve_below({theirs.fileno(): mounts[key] for key, (_, theirs) in pairs.items()})
    for _, theirs in pairs.values():
        theirs.close()
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return {key: ours.detach() for key, (ours, _) in pairs.items()}


def _serve_below(sockets: Mapping[int, Wanted]) -> None:
    """Run in the child: fork once more, so that whoever adopts the helper reaps it, and serve."""
    try:
        if os.fork() == 0:
            linux.prctl(linux.PR_SET_DUMPABLE, 0)
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            keep_only(sockets)
            _serve(dict(sockets))
    finally:
        os._exit(0)


def _serve(sockets: dict[int, Wanted]) -> None:
    poll = select.poll()
    for fd in sockets:
        poll.register(fd, select.POLLIN)
    while sockets:
        for fd, _ in poll.poll():
            poll.unregister(fd)
            with socket.socket(fileno=fd) as asking:
                _answer(asking, sockets.pop(fd))


def _answer(asking: socket.socket, wanted: Wanted) -> None:
    message, fds, _, _ = socket.recv_fds(asking, 16, 1, socket.MSG_CMSG_CLOEXEC)
    if not message or not fds:
        return  # nobody asked: the other end is closed
    try:
        linux.setns(fds[0], linux.CLONE_NEWNS)
        tree = wanted.open()
    except OSError as error:
        text = error.strerror or str(error)
        asking.send(f"{error.errno or errno.EIO} {text}".encode()[:_ANSWER_BYTES])
        return
    finally:
        os.close(fds[0])
    socket.send_fds(asking, [b"0"], [tree])
    os.close(tree)
