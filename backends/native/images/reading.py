"""Streams as they come, decompressed as their first bytes say."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Protocol, cast

from backends.errors import InnkeeperError, Unsupported
from backends.native.images import manifest
from backends.native.images.strict_json import Malformed

BLOCK = 1 << 20
_MAGICS = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"))
_LAYER_TYPES = {"": manifest.LAYER, "gzip": manifest.LAYER_GZIP, "zstd": manifest.LAYER_ZSTD}


class Source(Protocol):
    """What bytes come from."""

    def read(self, size: int = ..., /) -> bytes: ...


class Peeked:
    """A stream whose first bytes were looked at."""

    def __init__(self, stream: Source, check: Callable[[], None] = lambda: None) -> None:
        self._stream, self._check = stream, check
        self.start = b""
        while len(self.start) < 512 and (block := stream.read(512 - len(self.start))):
            self.start += block
        self._left = self.start

    @property
    def compression(self) -> str:
        """ "gzip", "zstd", "bzip2", "xz"; empty for none."""
        return compression_of(self.start)

    def read(self, size: int = BLOCK, /) -> bytes:
        """Return the next bytes. Raises what `check` does."""
        self._check()
        if self._left:
            data, self._left = self._left[:size], self._left[size:]
            return data
        return self._stream.read(size)


def compression_of(start: bytes) -> str:
    """Return how a stream is compressed, by its first bytes."""
    return next((name for magic, name in _MAGICS if start.startswith(magic)), "")


def layer_type(start: bytes) -> str:
    """Return the media type of a layer, by its first bytes."""
    compression = compression_of(start)
    if compression not in _LAYER_TYPES:
        raise Unsupported(f"a layer is compressed with {compression}, which images do not have")
    return _LAYER_TYPES[compression]


def layer_compression(media_type: str) -> str:
    """Return how a layer of a media type is compressed."""
    return next((name for name in ("gzip", "zstd") if media_type.endswith(name)), "")


def diff_id_of(blob: Source, media_type: str, check: Callable[[], None] = lambda: None) -> str:
    """Return the digest of a layer's tar. Raises Malformed, and what `check` does."""
    source, hashed = plain(blob, layer_compression(media_type)), hashlib.sha256()
    while block := source.read(BLOCK):
        hashed.update(block)
        check()
    return "sha256:" + hashed.hexdigest()


class _Plain:
    """What a decompressor gives, its complaints translated."""

    def __init__(self, inner: Source) -> None:
        self._inner = inner

    def read(self, size: int = BLOCK, /) -> bytes:
        try:
            return self._inner.read(size)
        except InnkeeperError:
            raise
        except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise Malformed(f"it is damaged or cut short: {error}") from None


def plain(stream: Source, compression: str) -> Source:
    """Return a stream decompressed. Raises Unsupported; reading it raises Malformed for what is damaged."""
    if not compression:
        return stream
    made: Source
    if compression == "gzip":
        made = gzip.GzipFile(fileobj=cast("IO[bytes]", _Readable(stream)))
    elif compression == "bzip2":
        made = bz2.BZ2File(cast("IO[bytes]", _Readable(stream)))
    elif compression == "xz":
        made = lzma.LZMAFile(cast("IO[bytes]", _Readable(stream)))  # noqa: SIM115 - the caller's stream
    else:
        made = _zstd(stream)
    return _Plain(made)


class _Readable:
    """The few methods that decompressors look for."""

    def __init__(self, stream: Source) -> None:
        self.read = stream.read

    def seekable(self) -> bool:
        return False

    def readable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        raise InnkeeperError("this stream is only read")


def _zstd(stream: Source) -> Source:
    from zstandard import ZstdDecompressor

    decompressor = ZstdDecompressor(max_window_size=1 << 27)
    return decompressor.stream_reader(cast("IO[bytes]", _Readable(stream)), read_across_frames=True)
