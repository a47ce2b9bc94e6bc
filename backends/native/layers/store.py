"""The unpacked layers of one state folder, shared by all images and containers that have them.

::

    STATE/layers/HEX/      fs/ (in overlay's format) and meta.json; HEX is of the chain id (image-spec config.md)
    STATE/layers/.ID/      being made; what a crash left of one is nobody's
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from backends.errors import InnkeeperError, NotFound
from backends.kernel import linux
from backends.native.images import rootfs
from backends.native.images.blobs import check_digest
from backends.native.images.config import chain_ids
from backends.native.images.reading import Source, layer_compression, plain
from backends.native.images.strict_json import Malformed
from backends.native.layers.unpacking import unpack_tar
from backends.trace import Recorder

MOST_FREE_BYTES = 4 << 30
"""A layer that unpacks to no more may be compressed as far as can be: there are files of zeros."""

MOST_RATIO = 500
"""A larger one may not unpack to more than so many times its size; `build/pack.py` makes a 230th of zeros."""


class Layers:
    """Layers by their chain ids."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "layers"

    def folder(self, chain_id: str) -> Path:
        """Return where the files of a layer are, or would be."""
        return self._place(chain_id) / "fs"

    def _place(self, chain_id: str) -> Path:
        return self._folder / check_digest(chain_id).removeprefix("sha256:")

    def has(self, chain_id: str) -> bool:
        """Say whether a layer is here, whole."""
        return self._place(chain_id).exists()

    def add(self, diff_id: str, parent_chain_id: str, stream: BinaryIO, media_type: str, recorder: Recorder) -> str:
        """Unpack a layer, verify its diff_id, and return its chain id. Raises InnkeeperError; nothing stays then."""
        draft = self._draft()
        try:
            (draft / "fs").mkdir(mode=0o755)
            packed = _Counted(stream)
            tar = _Hashed(plain(packed, layer_compression(media_type)), recorder, packed)
            unpack_tar(tar, draft, self.stack(parent_chain_id))
            tar.drain()
            if tar.diff_id != diff_id:
                raise InnkeeperError(f"layer {diff_id} is not what it should be: its content is {tar.diff_id}")
            return self._place_draft(draft, diff_id, parent_chain_id)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def adopt(self, folder: Path, diff_id: str, parent_chain_id: str) -> str:
        """Take over a folder on the same file system as a layer, and return its chain id."""
        draft = self._draft()
        folder.rename(draft / "fs")
        return self._place_draft(draft, diff_id, parent_chain_id)

    def _draft(self) -> Path:
        draft = self._folder / f".{secrets.token_hex(8)}"
        draft.mkdir(mode=0o700, parents=True)
        return draft

    def _place_draft(self, draft: Path, diff_id: str, parent: str) -> str:
        chain_id = chain_ids((parent, diff_id))[-1] if parent else diff_id
        meta = {"chain_id": chain_id, "diff_id": diff_id, "parent": parent, "size_bytes": rootfs.size_of(draft / "fs")}
        (draft / "meta.json").write_text(json.dumps(meta))
        _sync(draft)  # a power cut must not leave a layer that is there in name only
        try:
            draft.rename(self._place(chain_id))
        except OSError:
            if not self.has(chain_id):  # else somebody else was faster
                raise
            shutil.rmtree(draft, ignore_errors=True)
        _sync(self._folder)
        return chain_id

    def stack(self, chain_id: str) -> list[str]:
        """Return the folders of a layer and all below it, top first. Raises NotFound."""
        found = []
        while chain_id:
            found.append(str(self.folder(chain_id)))
            chain_id = str(self._meta(chain_id)["parent"])
        return found

    def _meta(self, chain_id: str) -> dict[str, object]:
        try:
            raw: dict[str, object] = json.loads((self._place(chain_id) / "meta.json").read_text())
        except FileNotFoundError:
            raise NotFound(f"there is no layer {chain_id}") from None
        return raw

    def size(self, chain_id: str) -> int:
        """Return the bytes on disk of one layer, without those below it."""
        size = self._meta(chain_id)["size_bytes"]
        return size if isinstance(size, int) else 0

    def all(self) -> list[str]:
        """Return the chain ids of all layers."""
        try:
            return [f"sha256:{name}" for name in os.listdir(self._folder) if not name.startswith(".")]
        except FileNotFoundError:
            return []

    def remove(self, chain_id: str) -> None:
        """Remove a layer; a crash leaves it whole or to be cleaned up."""
        grave = self._folder / f".{secrets.token_hex(8)}"
        self._place(chain_id).rename(grave)
        shutil.rmtree(grave)

    def keep_only(self, chain_ids: Collection[str]) -> list[str]:
        """Remove all other layers, and what crashes left; returns the chain ids of those removed."""
        gone = [chain_id for chain_id in self.all() if chain_id not in chain_ids]
        for chain_id in gone:
            self.remove(chain_id)
        for name in os.listdir(self._folder) if self._folder.exists() else ():
            if name.startswith("."):
                shutil.rmtree(self._folder / name, ignore_errors=True)
        return gone


def _sync(folder: Path) -> None:
    """Write the file system that a folder is on to its disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        linux.syncfs(fd)
    finally:
        os.close(fd)


class _Counted:
    """A stream that knows how much was read of it."""

    def __init__(self, stream: Source) -> None:
        self._stream, self.bytes = stream, 0

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""
        data = self._stream.read(size)
        self.bytes += len(data)
        return data


class _Hashed:
    """A stream of which the digest is known at its end; asks now and then whether to give up.

    Refuses what unpacks to very much more than it was.
    """

    def __init__(self, stream: Source, recorder: Recorder, packed: _Counted) -> None:
        self._stream, self._recorder, self._hash, self._packed = stream, recorder, hashlib.sha256(), packed
        self._bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""
        self._recorder.check()
        data = self._stream.read(size)
        self._hash.update(data)
        self._bytes += len(data)
        if self._bytes > MOST_FREE_BYTES and self._bytes > MOST_RATIO * self._packed.bytes:
            raise Malformed(f"a layer of {self._packed.bytes} bytes unpacks to more than {self._bytes}: it is refused")
        return data

    def drain(self) -> None:
        """Read what the unpacker did not want: what comes after the end of a tar is part of the layer."""
        while self.read(1 << 20):
            pass

    @property
    def diff_id(self) -> str:
        """The digest of what was read."""
        return "sha256:" + self._hash.hexdigest()
