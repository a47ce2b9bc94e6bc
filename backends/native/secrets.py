"""Secrets: read by who asks for a start, sealed in memory, and shown to the container as files of a ramfs.

::

    client       reads each source, packs them into one memfd, seals it, sends the descriptor with "start"
    supervisor   keeps the descriptor for starts by policy, its pages locked in memory; never reads it
    init         makes a ramfs that is attached nowhere, writes the files, makes it read-only, attaches it

Nothing of it is ever on disk: a ramfs is not swapped, unlike a tmpfs, and locked pages are not either. It is in
no config.json, trace, log, argument or environment of ours; what names it there is the secret's name.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from backends.container import Secret
from backends.errors import UsageError
from backends.kernel import linux, mount_calls, rooted
from backends.kernel.mounts import KernelStep

FOLDER = "/run/secrets"

_MOST_BYTES = 1 << 20
_HEAD_BYTES = 8
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_FLAGS = (
    mount_calls.MOUNT_ATTR_RDONLY
    | mount_calls.MOUNT_ATTR_NOSUID
    | mount_calls.MOUNT_ATTR_NODEV
    | mount_calls.MOUNT_ATTR_NOEXEC
)


def read(secret: Secret) -> bytes:
    """Return a secret's content from where it is kept. Raises UsageError, which never holds any of it."""
    kind, _, where = secret.source.partition(":")
    if kind == "env":
        found = os.environb.get(os.fsencode(where))
        if found is None:
            raise UsageError(f"secret {secret.name}: the variable {where} is not set here")
        data = found
    elif kind == "file":
        try:
            with open(where, "rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"secret {secret.name}: cannot read {where!r}: {said}") from error
    else:
        raise UsageError(f"secret {secret.name}: source {kind!r} is not known", hint="file:PATH or env:NAME")
    if len(data) > _MOST_BYTES:
        raise UsageError(f"secret {secret.name} is larger than {_MOST_BYTES >> 10} KiB")
    return data


def seal(secrets: Sequence[Secret]) -> int:
    """Read all secrets and return a sealed memfd that holds them; the caller closes it. Raises UsageError."""
    contents = [read(secret) for secret in secrets]
    head = json.dumps([len(content) for content in contents]).encode()
    fd = os.memfd_create("secrets", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(len(head).to_bytes(_HEAD_BYTES, "little") + head)
            for content in contents:
                file.write(content)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def handed(secrets: Sequence[Secret]) -> Iterator[tuple[int, ...]]:
    """Yield the descriptor to hand to a supervisor, if there is something to hand. Raises UsageError."""
    if not secrets:
        yield ()
        return
    fd = seal(secrets)
    try:
        yield (fd,)
    finally:
        os.close(fd)


def unseal(fd: int) -> list[bytes]:
    """Return the contents in a memfd of seal(). Raises ValueError, OSError for any other descriptor."""
    if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
        raise ValueError("it is not sealed")
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    start = _HEAD_BYTES + int.from_bytes(data[:_HEAD_BYTES], "little")
    found = []
    for length in json.loads(data[_HEAD_BYTES:start]):
        found.append(data[start : start + length])
        start += length
    return found


class Held:
    """A supervisor's hold on the memfd: kept for the next start by policy, and kept from the swap."""

    def __init__(self, fd: int) -> None:
        """Takes the descriptor over."""
        self.fd = fd
        self._pages = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
        # Refused to users without the right or the allowance for it: then the system's swap has to be trusted.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mlock2(ctypes.c_void_p(_address_of(fd)), ctypes.c_size_t(len(self._pages)), 0)

    def close(self) -> None:
        """Let go of it."""
        self._pages.close()
        os.close(self.fd)


class SecretKeeper:
    """What a supervisor knows of its container's secrets, from its first start to its last."""

    def __init__(self, fd: int = -1) -> None:
        """Takes the descriptor over, if there is one."""
        self._held = Held(fd) if fd >= 0 else None

    def descriptor(self, secrets: Sequence[Secret]) -> int:
        """Return the memfd that holds them, which stays ours; -1 if there are none. Raises UsageError.

        Nobody handed them over when a supervisor follows one that was killed: then they are read anew, which
        can be done for files, not for variables of a client that is long gone.
        """
        if not secrets:
            return -1
        if self._held is None:
            self._held = Held(seal(secrets))
        return self._held.fd

    @property
    def fds(self) -> tuple[int, ...]:
        """What no process of the container shall have for a moment."""
        return (self._held.fd,) if self._held is not None else ()


def _address_of(fd: int) -> int:
    """Return where the only mapping of a file begins in this process."""
    inode = f" {os.fstat(fd).st_ino} "
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            if "/memfd:secrets" in line and inode in line:
                return int(line.partition("-")[0], 16)
    raise OSError(14, "the pages are not mapped")


@dataclass(frozen=True, slots=True)
class PlaceSecrets(KernelStep):
    """Show secrets below a container's root as read-only files in memory. Runs in its mount namespace."""

    root: str
    secrets: tuple[Secret, ...]
    fd: int
    """Of seal(), in the same order."""

    kind = "secrets"

    def describe(self) -> str:
        names = ", ".join(secret.target or f"{FOLDER}/{secret.name}" for secret in self.secrets)
        return f"show secrets in memory: {names}"

    def by_hand(self) -> str:
        return f"mount -t ramfs -o mode=0755 ramfs {self.root}{FOLDER}"

    def run(self) -> None:
        mount = make_mount(self.secrets, self.fd)
        try:
            placed = [secret for secret in self.secrets if secret.target]
            if not placed:
                _attach(mount, self.root, FOLDER, "dir")
            else:
                self._show_alone(mount, placed)
        finally:
            os.close(mount)

    def _show_alone(self, mount: int, placed: Sequence[Secret]) -> None:
        """Attach those that have places of their own there, each as a file, and the folder if it is for others too.

        The kernel copies parts of a mount only while that is attached: for so long it lies on the root.
        """
        parts: list[tuple[int, str, str]] = []
        try:
            _attach(mount, self.root, "/", "dir")
            try:
                for secret in placed:
                    file = os.open(secret.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=mount)
                    try:
                        parts.append((mount_calls.copy_of(file), secret.target, "file"))
                    finally:
                        os.close(file)
                if len(placed) < len(self.secrets):
                    parts.insert(0, (mount_calls.copy_of(mount), FOLDER, "dir"))
            finally:
                linux.umount(f"/proc/self/fd/{mount}", linux.MNT_DETACH)
            for part, place, kind in parts:
                _attach(part, self.root, place, kind)
        finally:
            for part, _, _ in parts:
                os.close(part)


def _attach(mount: int, root: str, place: str, kind: str) -> None:
    target = rooted.open_or_make(root, place, kind)
    try:
        mount_calls.attach(mount, target)
    finally:
        os.close(target)


def make_mount(secrets: Sequence[Secret], fd: int) -> int:
    """Return a mount with the files, attached nowhere, that none can change any more; the caller closes it."""
    mount = mount_calls.new_filesystem("ramfs", "secrets", (("mode", "0755"),))
    try:
        # The mount's own descriptor only names it; files are made through one that is open.
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
        try:
            for secret, content in zip(secrets, unseal(fd), strict=True):
                _write(folder, secret, content)
        finally:
            os.close(folder)
        mount_calls.set_attributes(mount, set=_FLAGS)
    except BaseException:
        os.close(mount)
        raise
    return mount


def _write(folder: int, secret: Secret, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(secret.name, flags, 0o600, dir_fd=folder), "wb") as file:
        file.write(content)
        file.flush()
        os.fchown(file.fileno(), secret.uid, secret.gid)
        os.fchmod(file.fileno(), secret.mode)
