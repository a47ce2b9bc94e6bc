"""The device nodes and links of a container's /dev, as steps."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from backends.kernel import mount_calls as calls
from backends.kernel import rooted
from backends.kernel.mounts import KernelStep, RootfsFailed, said

_FILE_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


class DeviceFailed(RootfsFailed):
    """A node of config.json could not be made."""


class DeviceNode(NamedTuple):
    """One node (runtime-spec config-linux.md, "Devices")."""

    path: str
    device_type: str
    """ "c", "b", "u" or "p"."""

    major: int = 0
    minor: int = 0
    mode: int = 0o666
    uid: int = 0
    gid: int = 0

    @property
    def file_type(self) -> int:
        """S_IFCHR, S_IFBLK or S_IFIFO."""
        return _FILE_TYPES[self.device_type]

    @property
    def number(self) -> int:
        """What stat(2) calls st_rdev."""
        return 0 if self.device_type == "p" else os.makedev(self.major, self.minor)

    def is_it(self, found: os.stat_result) -> bool:
        """Whether a file is this device."""
        return stat.S_IFMT(found.st_mode) == self.file_type and found.st_rdev == self.number

    def __str__(self) -> str:
        return self.path if self.device_type == "p" else f"{self.path} ({self.device_type} {self.major}:{self.minor})"


DEFAULT_NODES = (
    DeviceNode("/dev/null", "c", 1, 3),
    DeviceNode("/dev/zero", "c", 1, 5),
    DeviceNode("/dev/full", "c", 1, 7),
    DeviceNode("/dev/random", "c", 1, 8),
    DeviceNode("/dev/urandom", "c", 1, 9),
    DeviceNode("/dev/tty", "c", 5, 0),
)
"""What every container has (runtime-spec config-linux.md, "Default Devices"); ptmx and console are no nodes of ours."""

DEFAULT_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)
CORE_LINK = ("/dev/core", "/proc/kcore")
PTMX_LINK = ("/dev/ptmx", "pts/ptmx")


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class MakeDevices(KernelStep):
    """Make nodes below a root; one that is there already stays, if it is the same device."""

    root: str
    nodes: tuple[DeviceNode, ...]
    bind: bool = False
    """Show the host's nodes instead: a user namespace may not make any."""

    trees: Mapping[str, int] = field(default_factory=dict)
    """Mounts that somebody else has made of nodes, by the node's path; closed when they have been attached."""

    kind = "mknod"

    def describe(self) -> str:
        return ("bind devices " if self.bind else "make devices ") + ", ".join(str(node) for node in self.nodes)

    def by_hand(self) -> str:
        if self.bind:
            places = (f"{self.root}{node.path}" for node in self.nodes)
            lines = [f"touch {place}; mount --bind {place.removeprefix(self.root)} {place}" for place in places]
        else:
            lines = [self._mknod_line(node) for node in self.nodes]
        return "; ".join(lines)

    def _mknod_line(self, node: DeviceNode) -> str:
        numbers = "" if node.device_type == "p" else f" {node.major} {node.minor}"
        return f"mknod -m {node.mode:o} {self.root}{node.path} {node.device_type}{numbers}"

    def run(self) -> None:
        umask = os.umask(0)
        root_fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder, nodes in _by_folder(self.nodes):
                folder_fd = _folder(root_fd, folder)
                try:
                    for node in nodes:
                        self._make(folder_fd, node)
                finally:
                    os.close(folder_fd)
        finally:
            os.close(root_fd)
            os.umask(umask)

    def _make(self, folder_fd: int, node: DeviceNode) -> None:
        name = os.path.basename(node.path)
        try:
            if self.bind or node.path in self.trees:
                _bind(folder_fd, name, node, self.trees.get(node.path))
            else:
                _mknod(folder_fd, name, node)
        except OSError as error:
            raise DeviceFailed(f"error creating device nodes: {node.path}: {said(error)}") from error


def _by_folder(nodes: Iterable[DeviceNode]) -> list[tuple[str, list[DeviceNode]]]:
    found: dict[str, list[DeviceNode]] = {}
    for node in nodes:
        found.setdefault(os.path.dirname(node.path) or "/", []).append(node)
    return list(found.items())


def _folder(root_fd: int, path: str) -> int:
    try:
        return rooted.open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        rooted.make_directory(root_fd, path)
        return rooted.open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)


def _mknod(folder_fd: int, name: str, node: DeviceNode) -> None:
    try:
        os.mknod(name, node.mode | node.file_type, node.number, dir_fd=folder_fd)
    except FileExistsError:
        if node.is_it(os.stat(name, dir_fd=folder_fd, follow_symlinks=False)):
            return
        text = f"a file that is not the device {node.device_type} {node.major}:{node.minor} exists there"
        raise OSError(errno.EEXIST, text) from None
    except PermissionError:
        _bind(folder_fd, name, node)
        return
    if node.uid or node.gid:
        _give(folder_fd, name, node)


def _give(folder_fd: int, name: str, node: DeviceNode) -> None:
    """Set the owner of the node just made, and of nothing that was put in its place."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        if not node.is_it(os.fstat(fd)):
            raise OSError(errno.EEXIST, "it was exchanged while it was made")
        os.chown(f"/proc/self/fd/{fd}", node.uid, node.gid)
    finally:
        os.close(fd)


def _bind(folder_fd: int, name: str, node: DeviceNode, tree: int | None = None) -> None:
    tree = calls.open_tree(node.path) if tree is None else tree
    try:
        if not node.is_it(os.fstat(tree)):
            text = f"the host's file is not the device {node.device_type} {node.major}:{node.minor}"
            raise OSError(errno.ENODEV, text)
        calls.set_attributes(tree, set=calls.MOUNT_ATTR_NOSUID | calls.MOUNT_ATTR_NOEXEC)
        flags = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        os.close(os.open(name, flags, 0o600, dir_fd=folder_fd))
        place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
        try:
            calls.attach(tree, place)
        finally:
            os.close(place)
    finally:
        os.close(tree)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class MakeLinks(KernelStep):
    """The usual symlinks of /dev; one that exists stays, but for those in `replacing`."""

    root: str
    links: tuple[tuple[str, str], ...]
    """(path, what it points to)."""

    replacing: tuple[tuple[str, str], ...] = ()
    kind = "symlink"

    def describe(self) -> str:
        return "link " + ", ".join(f"{path} -> {to}" for path, to in (*self.links, *self.replacing))

    def by_hand(self) -> str:
        return "; ".join(f"ln -sf {to} {self.root}{path}" for path, to in (*self.links, *self.replacing))

    def run(self) -> None:
        root_fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for path, to in (*self.replacing, *self.links):
                folder_fd = _folder(root_fd, os.path.dirname(path))
                try:
                    _link(folder_fd, os.path.basename(path), to, replace=(path, to) in self.replacing)
                finally:
                    os.close(folder_fd)
        finally:
            os.close(root_fd)


def _link(folder_fd: int, name: str, to: str, *, replace: bool) -> None:
    try:
        os.symlink(to, name, dir_fd=folder_fd)
    except FileExistsError:
        if not replace:
            return
        os.unlink(name, dir_fd=folder_fd)
        os.symlink(to, name, dir_fd=folder_fd)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class ReopenNull(KernelStep):
    """Put the container's own /dev/null in the place of the host's as 0, 1 or 2. Runs after the pivot.

    Its root could else change the mode of the host's node through the descriptor.
    """

    kind = "open"

    def describe(self) -> str:
        return "open the container's own /dev/null as standard input, output or error where it is the host's"

    def run(self) -> None:
        null = DEFAULT_NODES[0]
        ours = [fd for fd in range(3) if _is_open_on(fd, null)]
        if not ours:
            return
        own = os.open(null.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if not null.is_it(os.fstat(own)):
                raise DeviceFailed("can't reopen /dev/null: container's /dev/null is invalid")
            for fd in ours:
                os.dup2(own, fd)
        finally:
            os.close(own)


def _is_open_on(fd: int, node: DeviceNode) -> bool:
    try:
        return node.is_it(os.fstat(fd))
    except OSError:  # closed
        return False
