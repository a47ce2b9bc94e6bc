"""Mounts as steps: how they are tied to one another, and the overlay that a root may be.

All run in the container's own mount namespace, so their undo is the kernel's: the mounts go with the
last process. See mount(2), mount_namespaces(7).
"""

from __future__ import annotations

from dataclasses import dataclass

from backends.errors import InnkeeperError
from backends.kernel import linux, mount_options


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
    work: str
    target: str
    in_userns: bool = False
    """Made by the root of a user namespace, who may only use extended attributes of users for its marks."""

    kind = "mount"

    @property
    def data(self) -> str:
        """The mount data; `:` and `\\` in lower paths are escaped."""
        lower = ":".join(path.replace("\\", "\\\\").replace(":", "\\:") for path in self.lower)
        marks = ",userxattr" if self.in_userns else ""
        return f"lowerdir={lower},upperdir={self.upper},workdir={self.work}{marks}"

    def describe(self) -> str:
        return f"mount overlay of {len(self.lower)} layer{'s' * (len(self.lower) > 1)} on {self.target}"

    def by_hand(self) -> str:
        return f"mount -t overlay overlay -o {self.data} {self.target}"

    def run(self) -> None:
        linux.mount("overlay", self.target, "overlay", 0, self.data)
