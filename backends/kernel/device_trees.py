"""Device nodes for a user namespace, which may make none: made by the host's root, one mount for each.

They are on a file system that only these mounts hold, so mode and owner are the container's own, and the host need
have no such file.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence

from backends.kernel import linux
from backends.kernel import mount_calls as calls
from backends.kernel.devnodes import DeviceNode
from backends.kernel.mounts import RootfsFailed

_PLACE = "/dev"
"""Where the file system is mounted meanwhile, in a mount namespace of its own."""

_MOST = 250
"""So many descriptors go with one message (SCM_MAX_FD is 253)."""


def make(nodes: Sequence[DeviceNode]) -> list[int]:
    """Return a descriptor of a mount for each node, attached nowhere; owners are the host's numbers.

    Empty if we may not make nodes: the caller is in a user namespace itself. Raises RootfsFailed.
    """
    if len(nodes) > _MOST:
        raise RootfsFailed(f"more than {_MOST} devices in a user namespace")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _answer(theirs, nodes)
    theirs.close()
    with ours:
        text, fds, _, _ = socket.recv_fds(ours, 4096, _MOST, socket.MSG_CMSG_CLOEXEC)
    os.waitpid(pid, 0)
    if text not in (b"made", b"refused"):
        raise RootfsFailed(f"error creating device nodes: {text.decode('utf-8', 'replace') or 'their maker is gone'}")
    return fds


def _answer(sock: socket.socket, nodes: Sequence[DeviceNode]) -> None:
    """Run in the child: make them and send them. Never returns."""
    try:
        fds = array.array("i", _make(nodes))
        sock.sendmsg([b"made"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    except PermissionError:
        sock.send(b"refused")
    except Exception as error:  # the end of a forked process
        sock.send(str(error).encode()[:4096])
    finally:
        os._exit(0)


def _make(nodes: Sequence[DeviceNode]) -> list[int]:
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("devices", _PLACE, "tmpfs", linux.MS_NOSUID | linux.MS_NOEXEC, "mode=700,size=64k")
    os.umask(0)
    made = []
    for number, node in enumerate(nodes):
        path = f"{_PLACE}/{number}"
        os.mknod(path, node.mode | node.file_type, node.number)
        os.chown(path, node.uid, node.gid)
        os.chmod(path, node.mode)
        made.append(calls.open_tree(path))
    return made
