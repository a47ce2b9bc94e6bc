"""Mounts as steps: how they are tied to one another, and the overlay that a root may be.

All run in the container's own mount namespace, so their undo is the kernel's: the mounts go with the
last process. See mount(2), mount_namespaces(7).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from backends.errors import InnkeeperError
from backends.kernel import linux, mount_options

MOST_LAYERS = 500
"""Lower layers of one overlay (OVL_MAX_STACK in fs/overlayfs/ovl_entry.h)."""


class RootfsFailed(InnkeeperError):
    """Something about a container's file system; the message says all by itself, in the words callers know of runc."""


class MountFailed(RootfsFailed):
    """A mount of config.json could not be made."""

    def __init__(self, source: str, destination: str, why: str, number: int | None = None) -> None:
        super().__init__(f'error mounting "{source}" to rootfs at "{destination}": {why}')
        self.errno = number


def said(error: OSError) -> str:
    """Return what the system said, as Go programs write it: "no such file or directory"."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


class KernelStep:
    """Base of steps whose undo is done by the kernel when the process or namespace ends."""

    kind = "step"

    def by_hand(self) -> str:
        """No shell line unless a subclass knows one."""
        return ""

    def undo(self) -> None:
        """Done by the kernel."""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class SetPropagation(KernelStep):
    """Cut the mounts of this namespace off from those of the host, or tie them to one another."""

    how: str = "rprivate"
    target: str = "/"
    kind = "mount"

    def describe(self) -> str:
        below = "every mount below " if self.how.startswith("r") else ""
        return f"make {below}{self.target} {self.how}"

    def by_hand(self) -> str:
        return f"mount --make-{self.how} {self.target}"

    def run(self) -> None:
        linux.mount("", self.target, "", mount_options.PROPAGATION[self.how])


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class MountOverlay(KernelStep):
    """Stack an image's layers with a writable one on top (Documentation/filesystems/overlayfs.rst)."""

    lower: tuple[str, ...]
    """Top layer first."""

    upper: str
    """Empty, as is work: the layers can only be read. There must be two of them then."""

    work: str
    target: str
    in_userns: bool = False
    """Made by the root of a user namespace, who may only use extended attributes of users for its marks."""

    plain: bool = False
    """Whole files and folders only in the layer that is written, whatever this kernel's defaults are."""

    kind = "mount"

    @property
    def data(self) -> str:
        """The mount data; `:`, `,` and `\\` in paths are escaped."""
        return self._data_of(self.lower, self.upper, self.work)

    def _data_of(self, lower: Sequence[str], upper: str, work: str) -> str:
        # In a user namespace the kernel has neither of these on, and refuses to be told so.
        plain = ",redirect_dir=off,metacopy=off" if self.plain and not self.in_userns else ""
        marks = (",userxattr" if self.in_userns else "") + plain
        writable = f",upperdir={_plain(upper)},workdir={_plain(work)}" if upper else ""
        return f"lowerdir={':'.join(map(_plain, lower))}{writable}{marks}"

    def describe(self) -> str:
        return f"mount overlay of {len(self.lower)} layer{'s' * (len(self.lower) > 1)} on {self.target}"

    def by_hand(self) -> str:
        return f"mount -t overlay overlay -o {self.data} {self.target}"

    def run(self) -> None:
        if len(self.lower) > MOST_LAYERS:
            text = f"{len(self.lower)} layers are more than an overlay can have"
            raise RootfsFailed(f"{text} (the kernel's limit is {MOST_LAYERS})")
        data = self.data
        if len(os.fsencode(data)) < os.sysconf("SC_PAGE_SIZE"):
            linux.mount("overlay", self.target, "overlay", 0, data)
        else:
            self._mount_by_short_names()

    def _mount_by_short_names(self) -> None:
        """Mount data is a page at most (mount(2)), so the layers get names of a letter or two.

        These are symlinks in a file system in memory that nobody else sees: it is detached before anything else is
        done, and is gone when we are no longer in it. Works on every kernel and with paths of any length, which
        `lowerdir+` (Linux 6.8) does not: a value of fsconfig(2) has 255 bytes at most.
        """
        before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            linux.mount("tmpfs", self.target, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=700")
            try:
                os.chdir(self.target)
            finally:
                linux.umount(self.target, linux.MNT_DETACH)
            names = [f"{number:x}" for number in range(len(self.lower) + 2)]
            for name, path in zip(names, (self.upper or "/", self.work or "/", *self.lower), strict=True):
                os.symlink(path, name)
            data = self._data_of(names[2:], *(names[:2] if self.upper else ("", "")))
            linux.mount("overlay", self.target, "overlay", 0, data)
        finally:
            os.fchdir(before)
            os.close(before)


def _plain(path: str) -> str:
    """Return a path as the overlay's mount data has it."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
