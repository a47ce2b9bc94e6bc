"""An overlay's upper folder as the blob of a layer (image-spec layer.md), the same bytes for the same files.

Whiteouts (devices 0:0) become `.wh.NAME`, opaque folders `.wh..wh..opq`. Times are exact to the nanosecond; owners
are numbers, as the container sees them. Holes are written as zeros: image-spec (layer.md, "Sparse files") wants no
sparse entries, which not every tar knows. The unpacker makes holes of zeros again.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast

from backends.errors import InnkeeperError
from backends.kernel.mapped_overlay import Owners
from backends.native.owners import capabilities_inside, ids_inside

MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
LEVEL = 3
"""Of gzip: half the time of the usual 6, for a few per cent more bytes."""

_BLOCK = 1 << 20
_DEEPEST = 256
"""Parts of a path; no layer with more is unpacked here either (layers/unpack.py)."""

_MARKS = ("trusted.overlay.", "user.overlay.")
_KEPT = ("user.", "security.capability")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Sink(Protocol):
    """Where the blob goes: an Ingest of the store."""

    def write(self, data: bytes) -> None: ...
    def commit(self) -> str: ...


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """A layer as a blob of the store."""

    digest: str
    diff_id: str
    size_bytes: int
    """Of the blob."""

    media_type: str = MEDIA_TYPE


def pack(
    upper: str,
    sink: Sink,
    tell: Callable[[int], None] = lambda done: None,
    left_out: Collection[str] = (),
    owners: Owners | None = None,
) -> PackedLayer:
    """Write an upper folder into a sink and return what became of it.

    left_out are paths ("/etc/hosts") that are no part of it; owners are those of the user namespace that it was written
    in. tell gets the bytes read so far and may raise.
    """
    out = _Out(sink, tell)
    folder = os.open(upper, _FOLDER)
    try:
        with tarfile.open(fileobj=cast("BinaryIO", out), mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BLOCK) as tar:
            _Packer(tar, frozenset(left_out), owners).add_all(folder, "")
    finally:
        os.close(folder)
    return out.finish()


class _Out:
    """Digests the tar and compresses it on its way to the sink."""

    def __init__(self, sink: Sink, tell: Callable[[int], None]) -> None:
        self._sink, self._tell = sink, tell
        self._hash, self._gzip = hashlib.sha256(), zlib.compressobj(LEVEL, wbits=31)
        self._done = self._size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self._pass(self._gzip.compress(data))
        self._done += len(data)
        self._tell(self._done)
        return len(data)

    def _pass(self, data: bytes) -> None:
        if data:
            self._size += len(data)
            self._sink.write(data)

    def finish(self) -> PackedLayer:
        self._pass(self._gzip.flush())
        return PackedLayer(self._sink.commit(), "sha256:" + self._hash.hexdigest(), self._size)


class _Packer:
    def __init__(self, tar: tarfile.TarFile, left_out: frozenset[str], owners: Owners | None) -> None:
        self._tar, self._left_out, self._owners = tar, left_out, owners
        self._linked: dict[tuple[int, int], str] = {}

    def add_all(self, folder: int, above: str) -> None:
        for name in sorted(os.listdir(folder)):
            path = f"{above}{name}"
            if f"/{path}" not in self._left_out:
                self._add(folder, name, above, path)

    def _add(self, folder: int, name: str, above: str, path: str) -> None:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        kind = stat.S_IFMT(found.st_mode)
        if path.count("/") >= _DEEPEST:
            raise InnkeeperError(f"/{path[:60]}… is too deep: a path in a layer has {_DEEPEST} parts at most")
        if name.startswith(".wh."):
            raise InnkeeperError(f"/{path}: no layer can hold a name that begins with .wh.: it means a deletion")
        if kind == stat.S_IFCHR and found.st_rdev == 0:
            self._tar.addfile(self._entry(f"{above}.wh.{name}", found, is_exact=False))
        elif kind == stat.S_IFDIR:
            self._add_folder(folder, name, path, found)
        elif kind == stat.S_IFREG:
            self._add_file(folder, name, path, found)
        elif kind == stat.S_IFLNK:
            entry = self._entry(path, found)
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=folder)
            self._tar.addfile(entry)
        elif kind != stat.S_IFSOCK:  # tar has no sockets
            entry = self._entry(path, found)
            entry.type = {stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE}.get(kind, tarfile.FIFOTYPE)
            if kind != stat.S_IFIFO:
                entry.devmajor, entry.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
            self._tar.addfile(entry)

    def _add_folder(self, folder: int, name: str, path: str, found: os.stat_result) -> None:
        inner = os.open(name, _FOLDER, dir_fd=folder)
        try:
            entry = self._entry(path, found)
            entry.type = tarfile.DIRTYPE
            marks = self._attributes(inner, path, entry)
            self._tar.addfile(entry)
            if marks.get("opaque") == b"y":
                self._tar.addfile(self._entry(f"{path}/.wh..wh..opq", found, is_exact=False))
            self.add_all(inner, f"{path}/")
        finally:
            os.close(inner)

    def _add_file(self, folder: int, name: str, path: str, found: os.stat_result) -> None:
        entry = self._entry(path, found)
        key = found.st_dev, found.st_ino
        if key in self._linked:
            entry.type, entry.linkname = tarfile.LNKTYPE, self._linked[key]
            self._tar.addfile(entry)
            return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, dir_fd=folder), "rb", buffering=0) as file:
            marks = self._attributes(file.fileno(), path, entry)
            if "metacopy" in marks:
                raise InnkeeperError(f"{path}: the layer holds only its metadata (overlay option metacopy)")
            if found.st_nlink > 1:
                self._linked[key] = path
            entry.size = os.fstat(file.fileno()).st_size
            self._tar.addfile(entry, file)

    def _entry(self, path: str, found: os.stat_result, *, is_exact: bool = True) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(path)
        entry.mode = stat.S_IMODE(found.st_mode)
        entry.uid, entry.gid = ids_inside(found, self._owners)
        seconds, rest_ns = divmod(abs(found.st_mtime_ns), 10**9)
        sign = -1 if found.st_mtime_ns < 0 else 1
        entry.mtime = sign * seconds
        if rest_ns and is_exact:
            entry.pax_headers = {"mtime": f"{'-' * (sign < 0)}{seconds}.{rest_ns:09}".rstrip("0")}
        return entry

    def _attributes(self, fd: int, path: str, entry: tarfile.TarInfo) -> dict[str, bytes]:
        """Put extended attributes into an entry and return overlay's own marks."""
        marks = {}
        for key in sorted(os.listxattr(fd)):
            for prefix in _MARKS:
                if key.startswith(prefix):
                    marks[key.removeprefix(prefix)] = os.getxattr(fd, key)
                    break
            else:
                if key.startswith(_KEPT):
                    value = os.getxattr(fd, key)
                    if key == "security.capability":
                        value = capabilities_inside(value, self._owners)
                    text = value.decode("utf-8", "surrogateescape")
                    entry.pax_headers = {**entry.pax_headers, f"SCHILY.xattr.{key}": text}
        if "redirect" in marks:
            raise InnkeeperError(f"{path}: the layer holds only where it was before (overlay option redirect_dir)")
        return marks
