"""From the host's root to the container's, as steps (pivot_root(2), mount_namespaces(7))."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass

from backends.kernel import linux, mount_options
from backends.kernel import mount_calls as calls
from backends.kernel.mountinfo import read_mountinfo
from backends.kernel.mounts import KernelStep


@dataclass(frozen=True, slots=True)
class PrepareRoot(KernelStep):
    """Make the container's root a mount of its own whose parent hands nothing on to the host."""

    root: str
    parent: str = "private"
    """Propagation of the mount that the root is on: "private" or "slave"."""

    is_mounted: bool = False
    """Whether the root is a mount of this namespace already, which then needs no copy."""

    kind = "mount"

    def describe(self) -> str:
        return f"make the mount above {self.root} {self.parent}" + ("" if self.is_mounted else ", bind it on itself")

    def by_hand(self) -> str:
        line = f"mount --make-{self.parent} $(findmnt -nT {self.root} -o TARGET)"
        return line if self.is_mounted else f"{line}; mount --rbind {self.root} {self.root}"

    def run(self) -> None:
        self._cut_off_parent()
        if self.is_mounted:
            return
        # Recursive: an image may bring mounts of its own along.
        tree = calls.open_tree(self.root, recursive=True)
        place = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            calls.attach(tree, place)
        finally:
            os.close(place)
            os.close(tree)

    def _cut_off_parent(self) -> None:
        path = os.path.realpath(self.root)
        if self.is_mounted:
            path = os.path.dirname(path)
        while True:
            try:
                linux.mount("", path, "", mount_options.PROPAGATION[self.parent])
                return
            except OSError as error:
                if error.errno != errno.EINVAL or path == "/":
                    raise
            path = os.path.dirname(path)  # it is no mount point


@dataclass(frozen=True, slots=True)
class BindRoot(KernelStep):
    """Make the root a mount that keeps its mounts to itself, for a container in the mount namespace of its runtime.

    All that it mounts stays in sight of the host, below that mount, until this step is undone.
    """

    root: str
    kind = "mount"

    def describe(self) -> str:
        return f"bind {self.root} on itself and make it private"

    def by_hand(self) -> str:
        return f"mount --bind {self.root} {self.root}; mount --make-private {self.root}"

    def run(self) -> None:
        place = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            tree = calls.copy_of(place)
            try:
                calls.attach(tree, place)
                calls.set_attributes(tree, propagation=linux.MS_PRIVATE)
            finally:
                os.close(tree)
        finally:
            os.close(place)

    def undo(self) -> None:
        """Detach it with all that is mounted below it. Raises OSError, EINVAL where it is no mount."""
        linux.umount(self.root, linux.MNT_DETACH | linux.UMOUNT_NOFOLLOW)


@dataclass(frozen=True, slots=True)
class PivotRoot(KernelStep):
    """Make the container's root the root of this mount namespace and let go of the host's."""

    root: str
    kind = "pivot_root"

    def describe(self) -> str:
        return f"make {self.root} the root and detach the host's"

    def by_hand(self) -> str:
        return f"cd {self.root} && pivot_root . . && umount -l ."

    def run(self) -> None:
        old, new = (os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in ("/", self.root))
        try:
            os.fchdir(new)
            # With both arguments "." the old root is stacked on the new one: no folder is needed for it
            # (pivot_root(2), NOTES).
            linux.pivot_root(".", ".")
            os.fchdir(old)
            # Not private: a reference kept somewhere would hold the host's mounts (device-mapper's above all).
            linux.mount("", ".", "", linux.MS_SLAVE | linux.MS_REC)
            linux.umount(".", linux.MNT_DETACH)
            os.chdir("/")
        finally:
            os.close(old)
            os.close(new)


@dataclass(frozen=True, slots=True)
class MoveRoot(KernelStep):
    """Do without pivot_root, which a root on the initial ramdisk does not allow: move the root over "/" and chroot."""

    root: str
    kind = "chroot"

    def describe(self) -> str:
        return f"move {self.root} over / and change the root"

    def by_hand(self) -> str:
        return f"cd {self.root} && mount --move . / && chroot ."

    def run(self) -> None:
        self._drop_host_views()
        os.chdir(self.root)
        linux.mount(".", "/", "", linux.MS_MOVE)
        os.chroot(".")
        os.chdir("/")

    def _drop_host_views(self) -> None:
        """Take the host's whole procfs and sysfs away: below a chroot the kernel still lets them be mounted anew.

        It does so only where the namespace has an uncovered one.
        """
        root = os.path.realpath(self.root)
        for entry in reversed(read_mountinfo()):
            is_ours = entry.mount_point == root or entry.mount_point.startswith(f"{root}/")
            if entry.root != "/" or entry.fstype not in ("proc", "sysfs") or is_ours:
                continue
            with suppress(FileNotFoundError):  # went with the one it was on
                linux.mount("", entry.mount_point, "", linux.MS_SLAVE | linux.MS_REC)
                try:
                    linux.umount(entry.mount_point, linux.MNT_DETACH)
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.EPERM):
                        raise
                    linux.mount("tmpfs", entry.mount_point, "tmpfs")


@dataclass(frozen=True, slots=True)
class ChangeRoot(KernelStep):
    """chroot(2) alone: for a container that shares the mounts of its runtime."""

    root: str
    kind = "chroot"

    def describe(self) -> str:
        return f"change the root to {self.root}"

    def by_hand(self) -> str:
        return f"chroot {self.root}"

    def run(self) -> None:
        os.chroot(self.root)
        os.chdir("/")
