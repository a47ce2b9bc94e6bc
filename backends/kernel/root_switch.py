"""From the host's root to the container's, as steps (pivot_root(2), mount_namespaces(7))."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from backends.kernel import linux, mount_options
from backends.kernel import mount_calls as calls
from backends.kernel.mounts import KernelStep


@dataclass(frozen=True, slots=True, repr=False, eq=False)
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


@dataclass(frozen=True, slots=True, repr=False, eq=False)
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
