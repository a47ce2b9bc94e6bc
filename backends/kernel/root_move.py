"""Roots without pivot_root(2), as steps: for ramdisks, and for containers that share their runtime's mounts."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass

from backends.kernel import linux
from backends.kernel import mount_calls as calls
from backends.kernel.mountinfo import read_mountinfo
from backends.kernel.mounts import KernelStep


@dataclass(frozen=True, slots=True, repr=False, eq=False)
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


@dataclass(frozen=True, slots=True, repr=False, eq=False)
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


@dataclass(frozen=True, slots=True, repr=False, eq=False)
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
