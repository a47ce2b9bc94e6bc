"""Mounts as steps: what a container's file system is made of, one act each.

All run in the container's own mount namespace, so their undo is the kernel's: the mounts go with the
last process. See mount(2), mount_namespaces(7), pivot_root(2).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from backends.kernel import linux, rooted

_OPTION_FLAGS = {
    "ro": linux.MS_RDONLY,
    "nosuid": linux.MS_NOSUID,
    "nodev": linux.MS_NODEV,
    "noexec": linux.MS_NOEXEC,
    "sync": linux.MS_SYNCHRONOUS,
    "dirsync": linux.MS_DIRSYNC,
    "nosymfollow": linux.MS_NOSYMFOLLOW,
    "noatime": linux.MS_NOATIME,
    "nodiratime": linux.MS_NODIRATIME,
    "relatime": linux.MS_RELATIME,
    "strictatime": linux.MS_STRICTATIME,
    "lazytime": linux.MS_LAZYTIME,
    "bind": linux.MS_BIND,
    "rbind": linux.MS_BIND | linux.MS_REC,
}
_CLEARING = {"rw", "suid", "dev", "exec", "async", "atime", "diratime", "norelatime", "nostrictatime", "defaults"}
_PROPAGATION = {
    "private": linux.MS_PRIVATE,
    "rprivate": linux.MS_PRIVATE | linux.MS_REC,
    "slave": linux.MS_SLAVE,
    "rslave": linux.MS_SLAVE | linux.MS_REC,
    "shared": linux.MS_SHARED,
    "rshared": linux.MS_SHARED | linux.MS_REC,
}


def split_options(options: tuple[str, ...]) -> tuple[int, int, str]:
    """Return (flags, propagation, data) of OCI mount options; what is no flag is data for the file system."""
    flags, propagation, data = 0, 0, []
    for option in options:
        if option in _OPTION_FLAGS:
            flags |= _OPTION_FLAGS[option]
        elif option in _PROPAGATION:
            propagation |= _PROPAGATION[option]
        elif option not in _CLEARING:
            data.append(option)
    return flags, propagation, ",".join(data)


class KernelStep:
    """Base of steps whose undo is done by the kernel when the process or namespace ends."""

    kind = "step"

    def by_hand(self) -> str:
        """No shell line unless a subclass knows one."""
        return ""

    def undo(self) -> None:
        """Done by the kernel."""


@dataclass(frozen=True, slots=True)
class SetPropagation(KernelStep):
    """Cut the mounts of this namespace off from those of the host."""

    how: str = "rprivate"
    target: str = "/"
    kind = "mount"

    def describe(self) -> str:
        return f"make every mount below {self.target} {self.how}"

    def by_hand(self) -> str:
        return f"mount --make-{self.how} {self.target}"

    def run(self) -> None:
        linux.mount("", self.target, "", _PROPAGATION[self.how])


@dataclass(frozen=True, slots=True)
class MountOverlay(KernelStep):
    """Stack an image's layers with a writable one on top (Documentation/filesystems/overlayfs.rst)."""

    lower: tuple[str, ...]
    """Top layer first."""

    upper: str
    work: str
    target: str
    kind = "mount"

    @property
    def data(self) -> str:
        """The mount data; `:` and `\\` in lower paths are escaped."""
        lower = ":".join(path.replace("\\", "\\\\").replace(":", "\\:") for path in self.lower)
        return f"lowerdir={lower},upperdir={self.upper},workdir={self.work}"

    def describe(self) -> str:
        return f"mount overlay of {len(self.lower)} layer{'s' * (len(self.lower) > 1)} on {self.target}"

    def by_hand(self) -> str:
        return f"mount -t overlay overlay -o {self.data} {self.target}"

    def run(self) -> None:
        linux.mount("overlay", self.target, "overlay", 0, self.data)


@dataclass(frozen=True, slots=True)
class MountInRoot(KernelStep):
    """One entry of the `mounts` of an OCI config.json, below the container's root."""

    root: str
    destination: str
    fstype: str
    source: str
    options: tuple[str, ...] = ()
    kind = "mount"

    @property
    def _is_bind(self) -> bool:
        return "bind" in self.options or "rbind" in self.options

    def describe(self) -> str:
        what = f"bind {self.source}" if self._is_bind else f"mount {self.fstype}"
        options = [option for option in self.options if option not in ("bind", "rbind")]
        return f"{what} on {self.destination}" + (f" ({','.join(options)})" if options else "")

    def by_hand(self) -> str:
        options = f" -o {','.join(self.options)}" if self.options else ""
        fstype = "" if self._is_bind else f" -t {self.fstype}"
        return f"mount{fstype}{options} {self.source} {self.root}{self.destination}"

    def run(self) -> None:
        flags, propagation, data = split_options(self.options)
        make = "dir"
        if self._is_bind and not os.path.isdir(self.source):
            make = "file"
        with rooted.target(self.root, self.destination, make=make) as target:
            if self._is_bind:
                linux.mount(self.source, target, "", flags & (linux.MS_BIND | linux.MS_REC))
            else:
                linux.mount(self.source, target, self.fstype, flags, data)
        if "rbind" in self.options:
            self._detach_own_root()
        self._finish(flags, propagation)

    def _detach_own_root(self) -> None:
        """Take our own root out again from a bind of a folder above it: it shows /proc, not masked, a second time."""
        inside = os.path.relpath(os.path.realpath(self.root), os.path.realpath(self.source))
        if inside.startswith(".."):
            return
        with rooted.target(self.root, f"{self.destination}/{inside}") as copy:
            linux.umount(copy, linux.MNT_DETACH)

    def _finish(self, flags: int, propagation: int) -> None:
        rest = flags & ~(linux.MS_BIND | linux.MS_REC)
        if self._is_bind and rest:
            # A bind ignores all other flags; a second call sets them, and must keep those of the source.
            with rooted.target(self.root, self.destination) as target:
                kept = locked_flags(target)
                linux.mount("", target, "", linux.MS_REMOUNT | linux.MS_BIND | rest | kept)
        if propagation:
            with rooted.target(self.root, self.destination) as target:
                linux.mount("", target, "", propagation)


def locked_flags(path: str) -> int:
    """Return the flags of a mount that a remount must repeat, or it would lift them."""
    found = os.statvfs(path).f_flag
    pairs = ((os.ST_NOSUID, linux.MS_NOSUID), (os.ST_NODEV, linux.MS_NODEV), (os.ST_NOEXEC, linux.MS_NOEXEC))
    return sum(flag for bit, flag in pairs if found & bit) | (linux.MS_RDONLY if found & os.ST_RDONLY else 0)


@dataclass(frozen=True, slots=True)
class MakeDevice(KernelStep):
    """One node of the container's /dev."""

    root: str
    path: str
    device_type: str
    """ "c" or "b"."""

    major: int
    minor: int
    mode: int = 0o666
    kind = "mknod"

    def describe(self) -> str:
        return f"make device {self.path} ({self.device_type} {self.major}:{self.minor})"

    def by_hand(self) -> str:
        return f"mknod -m {self.mode:o} {self.root}{self.path} {self.device_type} {self.major} {self.minor}"

    def run(self) -> None:
        folder, name = os.path.split(self.path)
        rooted.make_directory(self.root, folder)
        folder_fd = rooted.open_in_root(self.root, folder)
        try:
            file_type = stat.S_IFCHR if self.device_type == "c" else stat.S_IFBLK
            os.mknod(name, self.mode | file_type, os.makedev(self.major, self.minor), dir_fd=folder_fd)
            # mknod(2) applies the umask.
            os.chmod(f"/proc/self/fd/{folder_fd}/{name}", self.mode)
        finally:
            os.close(folder_fd)


@dataclass(frozen=True, slots=True)
class MakeLinks(KernelStep):
    """The usual symlinks of /dev."""

    root: str
    links: tuple[tuple[str, str], ...]
    """(path, what it points to)."""

    kind = "symlink"

    def describe(self) -> str:
        return "link " + ", ".join(f"{path} -> {to}" for path, to in self.links)

    def by_hand(self) -> str:
        return "; ".join(f"ln -s {to} {self.root}{path}" for path, to in self.links)

    def run(self) -> None:
        for path, to in self.links:
            folder_fd = rooted.open_in_root(self.root, os.path.dirname(path))
            try:
                os.symlink(to, os.path.basename(path), dir_fd=folder_fd)
            except FileExistsError:
                pass
            finally:
                os.close(folder_fd)


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
        old, new = (os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for path in ("/", self.root))
        try:
            os.fchdir(new)
            # With both arguments "." the old root is stacked on the new one: no folder is needed for it
            # (pivot_root(2), NOTES).
            linux.pivot_root(".", ".")
            os.fchdir(old)
            linux.mount("", ".", "", linux.MS_SLAVE | linux.MS_REC)
            linux.umount(".", linux.MNT_DETACH)
            os.chdir("/")
        finally:
            os.close(old)
            os.close(new)
