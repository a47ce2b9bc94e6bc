"""Reading and writing one cgroup file, with errors that say what the kernel meant.

Documentation/admin-guide/cgroup-v2.rst ("Format", "Conventions") and cgroup-v1/*.rst of the kernel
give the formats.
"""

from __future__ import annotations

import errno
import os

from backends.errors import KernelRefused, NotFound, PermissionDenied

_ABSENT = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTDIR, errno.EOPNOTSUPP})


class GuestVanished(NotFound):
    """The guest's cgroup is gone: it ended, or someone removed the group."""


def read_text(path: str) -> str | None:
    """Return the file's text without the last newline; None if there is no such file, or no such group."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise _refused(f"read {path}", path, error) from error
    try:
        return _read_all(fd).decode("utf-8", "replace").rstrip("\n")
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise _refused(f"read {path}", path, error) from error
    finally:
        os.close(fd)


def write_text(path: str, text: str) -> None:
    """Write the text in one system call, as the kernel wants it, never making a file.

    Raises GuestVanished if the group is gone, PermissionDenied, KernelRefused with a hint where one helps.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_TRUNC)
        try:
            # An empty write never reaches the file's handler: a lone newline does, and means "empty".
            os.write(fd, text.encode() or b"\n")
        finally:
            os.close(fd)
    except OSError as error:
        raise _refused(f'write "{text}" to {path}', path, error) from error


def parse_keyed(text: str | None) -> dict[str, str]:
    """Parse "key value" lines (flat keyed, cgroup-v2.rst "Format"); the value is the rest of the line."""
    pairs = (line.partition(" ") for line in (text or "").splitlines())
    return {key: value for key, _, value in pairs if key}


def parse_amount(text: str | None) -> int | None:
    """Parse a limit file: None for "max", for no file and for what is no number."""
    try:
        return int(text or "")
    except ValueError:
        return None


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 65536):
        parts.append(part)
    return b"".join(parts)


def _refused(what: str, path: str, error: OSError) -> NotFound | PermissionDenied | KernelRefused:
    folder, name = os.path.split(path)
    if os.path.isdir(folder) and (name == "io.max" or name.startswith("blkio.throttle")):
        return KernelRefused(what, error, hint=_HINTS.get((error.errno or 0, "io.max"), ""))
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENOTDIR) and not os.path.isdir(folder):
        return GuestVanished(f"cannot {what}: the group {folder} is gone")
    if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0:
        return PermissionDenied(f"cannot {what}: {error.strerror}", hint="run as root, or in a delegated cgroup")
    hint = _HINTS.get((error.errno or 0, name), "")
    if error.errno == errno.ENOENT and "." in name:
        hint = f"this kernel does not have it, or the {name.partition('.')[0]} controller is not enabled for the group"
    return KernelRefused(what, error, hint=hint)


_HINTS = {
    (errno.EBUSY, "memory.limit_in_bytes"): "the guest uses more than that, and the kernel cannot reclaim enough"
    " of it; choose a higher limit, or stop something in the guest first",
    (errno.EBUSY, "memory.memsw.limit_in_bytes"): "the guest uses more memory and swap than that",
    (errno.EINVAL, "memory.limit_in_bytes"): "on cgroup v1 it must not exceed memory and swap together",
    (errno.EINVAL, "memory.memsw.limit_in_bytes"): "on cgroup v1 memory and swap together cannot be below memory",
    (errno.EINVAL, "cpu.cfs_quota_us"): "on cgroup v1 a group's quota must not exceed that of the group above it",
    (errno.EINVAL, "cpuset.cpus"): "those CPUs are not among the ones of the group above",
    (errno.EACCES, "cpuset.cpus"): "those CPUs are not among the ones of the group above",
    (errno.EBUSY, "cpuset.cpus"): "a group below uses CPUs that would be taken away",
    (errno.ENOSPC, "cgroup.procs"): "the group's cpuset has no CPU or no memory node yet",
    (errno.EBUSY, "cgroup.procs"): "in cgroup v2 a group that hands controllers down takes no processes",
    (errno.EBUSY, "cgroup.subtree_control"): "in cgroup v2 a group with processes of its own cannot hand controllers"
    " down; move them to a group below first",
    (errno.EINVAL, "cgroup.subtree_control"): "the cpu controller cannot be enabled while real-time processes sit"
    " outside the root group",
    (errno.ENODEV, "io.max"): "limits are set on whole disks, not on partitions",
    (errno.EINVAL, "io.max"): "limits are set on whole disks, not on partitions",
}
