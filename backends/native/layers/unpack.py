"""Unpack a layer's tar: a program of its own, which sees nothing but the layer and what is below it.

It makes a mount namespace, mounts an overlay of the layers below with the new one on top, changes its root to that,
gives up every capability that writing files does not need, and then does what the tar says as `tar -x` would: what is
replaced or taken away (`.wh.NAME`, `.wh..wh..opq`: image-spec layer.md, "Whiteouts"), linked to or written through
is what the layers below show, and the kernel writes down the difference. The first layer needs no overlay. Where the
kernel lets only root mount one, the marks are made here, and the layers below are not looked at.

Standard input is the tar. What it prints is "ok", or one line that says what is wrong.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import IO, Any, Literal, NoReturn, cast

from backends.native.layers import seclusion
from backends.native.layers.headers import BadLayer, Header
from backends.native.layers.room import HOLE, Bounds, Room

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
_RESTORED = ("user.", "security.capability", "system.posix_acl_")
_NOT_RESTORED = ("user.overlay.",)
_BLOCK = 1 << 20


def main(request: str) -> None:
    """Do what the parent asks: a JSON object of folders and bounds."""
    message = "ok"
    try:
        asked = json.loads(request)
        bounds = Bounds(**asked["bounds"])
        preload()
        os.umask(0o022)  # modes of entries are set one by one; folders that no entry makes are 0755
        resource.setrlimit(resource.RLIMIT_AS, (bounds.memory_bytes, bounds.memory_bytes))
        is_merged = seclusion.enter(
            asked["target"], asked["work"], asked["place"], asked["below"], in_userns=asked["in_userns"]
        )
        opaque = "" if is_merged or not asked["below"] else "user.overlay.opaque"
        Unpacker(bounds, opaque, in_userns=asked["in_userns"]).unpack(sys.stdin.buffer)
    except MemoryError:
        message = "a header of it needs more memory than a layer may"
    except Exception as error:  # the end of a process: it reports and is gone
        message = _said(error)
    sys.stdout.write(message.replace("\n", " ")[:500])


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def preload() -> None:
    """Import what is imported on demand, which must be here before the root is changed."""
    "x".encode("idna")
    "x".encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


class Unpacker:
    """Does what a tar says in the root folder of this process."""

    def __init__(self, bounds: Bounds, opaque: str = "", *, in_userns: bool, is_layer: bool = True) -> None:
        """opaque: the attribute for folders that hide what is below, where no overlay is there to set it.

        is_layer: names that begin with .wh. mean that something is taken away.
        """
        self._bounds, self._opaque, self._in_userns, self._is_layer = bounds, opaque, in_userns, is_layer
        self._made: set[str] = set()
        """Every path of this layer: what it takes away is of the layers below only."""

        self._holders: set[str] = set()
        """Folders that hold something of this layer."""

        self._parents: set[str] = {"/"}
        """Folders that are known to be there."""

        self._times: dict[str, tuple[int, int]] = {}
        self._times_below: dict[str, tuple[int, int]] = {}
        """When folders were changed that this layer does not name, before something was put into them."""

        self._hidden: set[str] = set()
        """Folders that hide what is below."""

        self._room = Room(bounds)

    def unpack(self, stream: IO[bytes], mode: Literal["r|", "r|*"] = "r|") -> None:
        """Take in all that the stream has. Raises BadLayer, tarfile.TarError, OSError."""
        with tarfile.open(fileobj=stream, mode=mode, bufsize=_BLOCK, tarinfo=Header, errorlevel=2) as archive:
            for entry in self._entries(archive):
                path = _inside(entry.name, self._bounds.depth)
                parent, name = os.path.split(path)
                parent = self._real(parent)  # what it takes away is told from what it adds by their paths
                path = os.path.join(parent, name)
                self._keep_times(parent)
                if name.startswith(_WHITEOUT) and self._is_layer:
                    self._take_away(parent, name)
                elif path == "/":
                    if entry.isdir():
                        self._finish(entry, path)
                else:
                    self._make_parent(parent)
                    self._make(archive, entry, path)
                    self._note(path)
        self._times = self._times_below | self._times
        for path in sorted(self._times, reverse=True):  # deepest first: what is written in a folder changes its time
            os.utime(path, ns=self._times[path], follow_symlinks=False)

    def _entries(self, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        count = 0
        while (entry := archive.next()) is not None:
            count += 1
            if count > self._bounds.entries:
                raise BadLayer(f"it has more than {self._bounds.entries} entries")
            if cast(Any, archive).offset > self._bounds.total_bytes:  # tarfile counts its way there, also past the end
                raise BadLayer(f"there is no space for it: it is larger than {self._bounds.total_bytes >> 20} MiB")
            yield entry
            cast(Any, archive).members = []  # it would keep them all

    def _note(self, path: str) -> None:
        self._made.add(path)
        parent = os.path.dirname(path)
        while parent != "/" and parent not in self._holders:
            self._holders.add(parent)
            parent = os.path.dirname(parent)

    def _real(self, parent: str) -> str:
        """Return a folder's path without links."""
        if parent in self._parents:
            return parent
        return os.path.realpath(parent)

    def _keep_times(self, parent: str) -> None:
        """Note the times of folders that are about to be changed, by their paths without links."""
        if parent in self._parents and parent != "/":
            return
        path = parent
        while path not in self._times_below:
            with suppress(FileNotFoundError):
                found = os.lstat(path)
                if stat.S_ISDIR(found.st_mode):
                    self._times_below[path] = found.st_mtime_ns, found.st_mtime_ns
            path = os.path.dirname(path)

    def _make_parent(self, parent: str) -> None:
        if parent in self._parents:
            return
        os.makedirs(parent, mode=0o755, exist_ok=True)
        self._parents.add(parent)

    # ── what is added ────────────────────────────────────────────────────────────────────────────────

    def _make(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str) -> None:
        is_there = self._clear(path, keeps_folder=entry.isdir())
        if entry.isdir():
            if not is_there:
                os.mkdir(path, 0o700)
        elif entry.islnk():
            self._link(entry, path)
            return  # it has what the other has
        elif entry.issym():
            os.symlink(entry.linkname, path)
        elif entry.isreg():
            self._write(archive, entry, path)
        elif entry.isfifo():
            os.mkfifo(path, 0o600)
        elif entry.ischr() or entry.isblk():
            if self._in_userns:
                return  # the kernel makes none for the root of a user namespace
            if entry.ischr() and (entry.devmajor, entry.devminor) == (0, 0):
                raise BadLayer(f"{path}: the device 0:0 means a deletion, and is no file of a layer")
            kind = stat.S_IFCHR if entry.ischr() else stat.S_IFBLK
            os.mknod(path, kind | 0o600, os.makedev(entry.devmajor, entry.devminor))
        else:
            raise BadLayer(f"{path}: an entry of an unknown type {entry.type!r}")
        self._finish(entry, path)

    def _link(self, entry: tarfile.TarInfo, path: str) -> None:
        target = _inside(entry.linkname, self._bounds.depth)
        self._keep_times(os.path.realpath(os.path.dirname(target)))
        try:
            os.link(target, path, follow_symlinks=False)
        except OSError as error:
            what = "a folder" if os.path.isdir(target) else f"what cannot be linked to ({error.strerror})"
            raise BadLayer(f"{path[:200]} is a hard link to {what}: {entry.linkname[:200]!r}") from None

    def _clear(self, path: str, *, keeps_folder: bool) -> bool:
        """Make way for an entry; says whether there is a folder that stays."""
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(path)
            self._parents.clear()  # it may have been a link to a folder
        elif keeps_folder:
            return True
        else:
            self._remove_folder(path)
        return False

    def _remove_folder(self, path: str) -> None:
        shutil.rmtree(path)
        below = f"{path}/"
        self._parents.clear()
        for times in (self._times, self._times_below):
            for key in [key for key in times if key == path or key.startswith(below)]:
                del times[key]
        for known in (self._made, self._holders, self._hidden):
            known -= {key for key in known if key == path or key.startswith(below)}

    def _write(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str) -> None:
        self._room.check(entry.size)
        source = archive.fileobj
        assert source is not None
        source.seek(entry.offset_data)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            pieces = getattr(entry, "sparse", None)
            for offset, size in pieces if pieces is not None else ((0, entry.size),):
                if pieces is not None:
                    os.lseek(fd, offset, os.SEEK_SET)
                self._room.fill(fd, source, size)
            if pieces is not None or entry.size >= HOLE:
                os.ftruncate(fd, entry.size)
        finally:
            os.close(fd)

    def _finish(self, entry: tarfile.TarInfo, path: str) -> None:
        """Give it owner, mode, attributes and time, in this order: each takes away what comes after it."""
        try:
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EOVERFLOW):
                raise BadLayer(f"{path}: its owner {entry.uid}:{entry.gid} is none of this user's ids") from error
            raise
        except OverflowError:
            raise BadLayer(f"{path}: {entry.uid}:{entry.gid} is no owner") from None
        if not entry.issym():
            os.chmod(path, entry.mode & 0o7777)
        _set_xattrs(entry, path)
        times = _times(entry, path)
        if entry.isdir():
            self._times[path] = times
        else:
            os.utime(path, ns=times, follow_symlinks=False)

    # ── what is taken away ───────────────────────────────────────────────────────────────────────────

    def _take_away(self, parent: str, name: str) -> None:
        if name == _OPAQUE:
            if self._is_folder(parent):
                self._hide_all(parent)
            return
        if name.startswith(_WHITEOUT * 2):
            return  # notes of aufs
        taken = name[len(_WHITEOUT) :]
        if taken in ("", ".", ".."):
            raise BadLayer(f"{parent}/{name} takes away nothing that could be")
        path = os.path.join(parent, taken)
        if self._opaque and not os.path.lexists(path):
            self._make_parent(parent)
            os.mknod(path, stat.S_IFCHR)
        elif self._is_folder(parent):
            self._remove_lower(path)

    def _is_folder(self, path: str) -> bool:
        if self._opaque:
            self._make_parent(path)
        return os.path.isdir(path)

    def _remove_lower(self, path: str) -> None:
        """Remove what the layers below have there, and keep what this one has."""
        try:
            is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
        except FileNotFoundError:
            return
        if path in self._made or path in self._holders:
            if is_folder:
                self._hide_all(path)
        elif is_folder:
            shutil.rmtree(path)
            self._parents.clear()
        else:
            os.unlink(path)
            self._parents.clear()

    def _hide_all(self, folder: str) -> None:
        """Hide all that the layers below have in a folder."""
        if self._opaque:
            os.setxattr(folder, self._opaque, b"y", follow_symlinks=False)
            return
        if folder in self._hidden:
            return
        self._hidden.add(folder)
        if folder != "/" and folder not in self._holders:
            # Made anew it is opaque, which is less than a mark for each file that it had.
            kept = os.lstat(folder)
            attributes = {key: os.getxattr(folder, key) for key in os.listxattr(folder) if key.startswith(_RESTORED)}
            shutil.rmtree(folder)
            self._parents.clear()
            os.mkdir(folder, 0o700)
            os.chown(folder, kept.st_uid, kept.st_gid)
            os.chmod(folder, stat.S_IMODE(kept.st_mode))
            for key, value in attributes.items():
                os.setxattr(folder, key, value)
            self._times.setdefault(folder, (kept.st_atime_ns, kept.st_mtime_ns))
            return
        for name in os.listdir(folder):
            self._remove_lower(os.path.join(folder, name))


def _inside(name: str, depth: int) -> str:
    """Return the absolute path of an entry. Raises BadLayer for one that tries to climb out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadLayer(f"{name[:200]!r} leads out of the layer")
    if len(parts) > depth:
        raise BadLayer(f"it has more than {depth} folders in one another")
    return "/" + "/".join(parts)


def _times(entry: tarfile.TarInfo, path: str) -> tuple[int, int]:
    """Return its time in nanoseconds, twice: a layer has no time of access."""
    text = entry.pax_headers.get("mtime")
    try:
        found = int(Decimal(text) * 10**9) if text is not None else int(entry.mtime) * 10**9
        if not -(2**62) < found < 2**62:
            raise ValueError
    except (InvalidOperation, ValueError, OverflowError):
        raise BadLayer(f"{path}: {text or entry.mtime!r} is no time") from None
    return found, found


def _set_xattrs(entry: tarfile.TarInfo, path: str) -> None:
    for key, value in entry.pax_headers.items():
        name = key.removeprefix(_XATTR)
        if name != key and name.startswith(_RESTORED) and not name.startswith(_NOT_RESTORED):
            try:
                os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
            except OSError as error:
                # A file system may have none, and symlinks and devices have none of users (xattr(7)).
                if error.errno not in (errno.ENOTSUP, errno.EPERM) or name == "security.capability":
                    _refuse(path, name, error)


def _refuse(path: str, name: str, error: OSError) -> NoReturn:
    raise BadLayer(f"{path}: cannot set its attribute {name}: {error.strerror}") from error
