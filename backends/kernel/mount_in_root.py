"""One mount of a container's config.json, as a step: below a root that other people wrote.

A bind is a copy of a tree: made and given its flags while it is attached nowhere, then attached to a descriptor.
See mount(2), open_tree(2), move_mount(2).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from backends.kernel import linux, mount_options, rooted
from backends.kernel import mount_calls as calls
from backends.kernel.mount_options import MountOptions
from backends.kernel.mounts import KernelStep, MountFailed, said

_HOST_TREES = {"sysfs": "/sys", "mqueue": "/dev/mqueue"}
"""What is shown of the host where a user namespace may not mount its own: the namespace behind it is the host's."""

_PROC_FILES = frozenset({
    "cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime",
    "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled",
})  # fmt: skip
"""What may be mounted inside /proc: lxcfs replaces these."""


class TreeMaker(Protocol):
    """Makes the tree that a bind attaches: with mapped owners, or by a process that reaches its source."""

    def open(self, source: str, *, recursive: bool) -> int:
        """Return a descriptor of it, attached nowhere. Raises OSError."""
        ...


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class MountInRoot(KernelStep):
    """One entry of the `mounts` of an OCI config.json, below the container's root."""

    root: str
    destination: str
    fstype: str
    source: str
    options: tuple[str, ...] = ()
    maker: TreeMaker | None = None
    """Who makes the tree of a bind, where opening its source is not enough."""

    label: str = ""
    """SELinux context of the files, or nothing."""

    in_userns: bool = False
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
        wanted = mount_options.parse(self.options)
        try:
            root_fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if wanted.is_bind and not wanted.is_remount:
                    self._bind(root_fd, wanted)
                else:
                    self._mount(root_fd, wanted)
            finally:
                os.close(root_fd)
        except OSError as error:
            raise MountFailed(self.source, self.destination, said(error), error.errno) from error

    def _bind(self, root_fd: int, wanted: MountOptions) -> None:
        opened = self.maker.open if self.maker else calls.open_tree
        tree = opened(self.source, recursive=wanted.is_recursive)
        try:
            make = "dir" if rooted.is_directory(tree) else "file"
            with self._target(root_fd, make) as target:
                self._check_proc(root_fd, target, tree)
                set_bind_attributes(tree, wanted)
                _attach_alike(tree, target)
            _finish(tree, wanted)
        finally:
            os.close(tree)
        if wanted.is_recursive:
            self._detach_own_root(root_fd)

    def _detach_own_root(self, root_fd: int) -> None:
        """Take our own root out again from a bind of a folder above it: it shows /proc, not masked, a second time."""
        inside = os.path.relpath(os.readlink(f"/proc/self/fd/{root_fd}"), os.path.realpath(self.source))
        if inside.startswith(".."):
            return
        with suppress(FileNotFoundError), rooted.target(root_fd, f"{self.destination}/{inside}") as copy:
            try:
                linux.umount(copy, linux.MNT_DETACH)
            except OSError as error:
                if error.errno != errno.EINVAL:  # it is no mount: it was not taken along
                    raise

    def _mount(self, root_fd: int, wanted: MountOptions) -> None:
        if self.fstype == "tmpfs" or os.path.normpath(self.destination) == "/dev":
            # What is mounted below it needs folders first; FinishReadonly makes it so after the pivot.
            wanted = wanted._replace(flags=wanted.flags & ~linux.MS_RDONLY)
        data = self._data(root_fd, wanted.data)
        with self._target(root_fd, "dir") as target:
            self._check_proc(root_fd, target, None)
            if wanted.is_remount:
                linux.mount(self.source, f"/proc/self/fd/{target}", self.fstype, wanted.flags, data)
                return
            try:
                if wanted.propagation or wanted.recursive_set or wanted.recursive_clear or wanted.copy_up:
                    self._mount_by_parts(target, wanted._replace(data=data))
                else:
                    linux.mount(self.source, f"/proc/self/fd/{target}", self.fstype, wanted.flags, data)
            except PermissionError:
                if not self.in_userns or self.fstype not in _HOST_TREES:
                    raise
                self._show_host_tree(target, wanted)
            if self.label and self.fstype == "mqueue":
                os.setxattr(f"/proc/self/fd/{target}", "security.selinux", self.label.encode())

    def _data(self, root_fd: int, data: str) -> str:
        if self.fstype == "tmpfs" and "mode=" not in data and "remount" not in self.options:
            # A new tmpfs looks like the folder it covers.
            with suppress(FileNotFoundError), rooted.target(root_fd, self.destination) as covered:
                data = f"mode={os.stat(covered).st_mode & 0o7777:04o}" + (f",{data}" if data else "")
        if self.label and self.fstype not in ("proc", "sysfs", "mqueue"):
            data = (f"{data}," if data else "") + f'context="{self.label}"'
        return data

    def _mount_by_parts(self, target: int, wanted: MountOptions) -> None:
        """Mount where more is to be done to the mount than one call can say."""
        mount_fd = calls.new_filesystem(self.fstype, self.source, wanted.pairs)
        try:
            if wanted.copy_up:
                from backends.kernel.copy_up import copy_folder

                copy_folder(target, mount_fd)
            asked, _ = wanted._replace(flags=wanted.flags | linux.MS_BIND).bind_attributes
            calls.set_attributes(mount_fd, set=asked)
            calls.attach(mount_fd, target)
            _finish(mount_fd, wanted)
        finally:
            os.close(mount_fd)

    def _show_host_tree(self, target: int, wanted: MountOptions) -> None:
        tree = calls.open_tree(_HOST_TREES[self.fstype], recursive=True)
        try:
            asked, _ = wanted.bind_attributes
            calls.set_attributes(tree, set=asked & ~calls.MOUNT_ATTR__ATIME, recursive=True)
            calls.attach(tree, target)
            _finish(tree, wanted)
        finally:
            os.close(tree)

    @contextmanager
    def _target(self, root_fd: int, make: str) -> Iterator[int]:
        """Yield a descriptor of where to mount, made if it was missing."""
        if self.fstype in ("proc", "sysfs") and not self._is_bind:
            fd = self._ordinary_directory(root_fd)
        else:
            fd = rooted.open_or_make(root_fd, self.destination, make)
        try:
            yield fd
        finally:
            os.close(fd)

    def _ordinary_directory(self, root_fd: int) -> int:
        flags = os.O_PATH | os.O_NOFOLLOW
        try:
            fd = rooted.open_in_root(root_fd, self.destination, flags)
        except FileNotFoundError:
            rooted.make_directory(root_fd, self.destination)
            fd = rooted.open_in_root(root_fd, self.destination, flags)
        if not rooted.is_directory(fd):
            os.close(fd)
            text = f'filesystem "{self.fstype}" must be mounted on ordinary directory'
            raise MountFailed(self.source, self.destination, text)
        return fd

    def _check_proc(self, root_fd: int, target: int, tree: int | None) -> None:
        """Refuse to put anything into or over /proc that lets a container fake what is written there later."""
        base, place = os.readlink(f"/proc/self/fd/{root_fd}"), os.readlink(f"/proc/self/fd/{target}")
        inside = place.removeprefix(base).lstrip("/") if f"{place}/".startswith(f"{base.rstrip('/')}/") else None
        if inside is None:
            raise MountFailed(self.source, self.destination, f'mountpoint "{place}" is outside of rootfs "{base}"')
        if inside == "proc":
            if self.fstype == "proc" and tree is None:
                return
            if tree is not None and linux.filesystem_type(tree) == linux.PROC_SUPER_MAGIC:
                return
            why = f'"{place}" cannot be mounted because it is not of type proc'
        elif not inside.startswith("proc/") or inside.removeprefix("proc/") in _PROC_FILES:
            return
        else:
            why = f'"{place}" cannot be mounted because it is inside /proc'
        raise MountFailed(self.source, self.destination, f"check proc-safety of {self.destination} mount: {why}")


def _attach_alike(tree: int, target: int) -> None:
    """Attach a folder on a folder, or a file on a file; else say so as mount(2) does: move_mount(2) has one EINVAL."""
    try:
        calls.attach(tree, target)
    except OSError as error:
        if error.errno == errno.EINVAL and rooted.is_directory(tree) != rooted.is_directory(target):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
        raise


def set_bind_attributes(tree: int, wanted: MountOptions) -> None:
    """Give a bind exactly the flags asked for; where that is not allowed, the flags asked for beside its own.

    In a user namespace the flags of mounts that came from outside are locked: they cannot be lifted, so an option
    that would lift one ("suid" on a nosuid mount) is an error, and one that is not mentioned stays.
    """
    wanted_set, wanted_clear = wanted.bind_attributes
    if not wanted_set and not wanted_clear:
        return
    try:
        calls.set_attributes(tree, set=wanted_set, clear=wanted_clear)
    except PermissionError:
        wanted_set, wanted_clear = wanted.insistent_attributes
        try:
            calls.set_attributes(tree, set=wanted_set, clear=wanted_clear)
        except PermissionError as error:
            text = "cannot change the mount's locked flags: operation not permitted"
            raise PermissionError(errno.EPERM, text) from error


def _finish(mount_fd: int, wanted: MountOptions) -> None:
    """Set what is set on an attached mount: propagation, then the attributes of all mounts below."""
    for how in wanted.propagation:
        recursive = bool(how & linux.MS_REC)
        calls.set_attributes(mount_fd, propagation=how & ~linux.MS_REC, recursive=recursive)
    if wanted.recursive_set or wanted.recursive_clear:
        calls.set_attributes(mount_fd, set=wanted.recursive_set, clear=wanted.recursive_clear, recursive=True)
