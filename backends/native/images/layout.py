"""The index of our store: an OCI image layout (image-layout.md) that any tool can read.

::

    STATE/images/oci-layout    which version of the layout it is
    STATE/images/index.json    a descriptor for each name of an image, and one for each image without a name
    STATE/images/index.lock    held by who changes index.json, which is replaced by rename
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from backends.errors import Damaged
from backends.native.images.manifest import INDEX, Descriptor, descriptor, dump
from backends.native.images.strict_json import Malformed, a_list, parse
from backends.native.locking import locked
from backends.native.store import write_file

NAME = "org.opencontainers.image.ref.name"
FROM_INDEX = "io.innkeeper.index"
"""Annotation: the digest of the index of several platforms that it was chosen from."""

CACHE = "io.innkeeper.cache"
"""Annotation: a step of a build, by its key, that a later build can use again; no image that users see."""

_MAX_BYTES = 64 << 20
_LAYOUT = {"imageLayoutVersion": "1.0.0"}

Identity = tuple[int, int, int]
"""Of one state of index.json."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of one image."""

    manifest: Descriptor
    name: str = ""
    """As shown, with its tag; empty for an image that has none."""

    from_index: str = ""
    cache_key: str = ""

    @classmethod
    def of(cls, found: Descriptor) -> Entry:
        """Return the entry that a descriptor in index.json is."""
        notes = found.annotations
        return cls(replace(found, annotations={}), notes.get(NAME, ""), notes.get(FROM_INDEX, ""), notes.get(CACHE, ""))

    def to_descriptor(self) -> Descriptor:
        """The reverse of of()."""
        notes = {NAME: self.name, FROM_INDEX: self.from_index, CACHE: self.cache_key}
        return replace(self.manifest, annotations={key: value for key, value in notes.items() if value})


class Layout:
    """The index of one store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = folder / "index.json"

    def identity(self) -> Identity | None:
        """Return what differs whenever the index is another; None if there is none yet."""
        try:
            found = os.stat(self._index)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def entries(self) -> list[Entry]:
        """Return all entries, oldest first. Raises Damaged."""
        try:
            data = self._index.read_bytes()
        except FileNotFoundError:
            return []
        try:
            raw = parse(data, str(self._index), _MAX_BYTES)
            return [Entry.of(descriptor(entry, "entry")) for entry in a_list(raw.get("manifests"), "manifests")]
        except Malformed as error:
            hint = "mend it, or delete it and load or fetch the images again"
            raise Damaged(f"{self._index} is damaged: {error.message}", hint=hint) from error

    @contextmanager
    def changing(self) -> Iterator[list[Entry]]:
        """Yield the entries to be changed in place; written at the end, unless an exception ends it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self._folder / "index.lock"):
            entries = self.entries()
            before = list(entries)
            yield entries
            if entries != before or not self._index.exists():
                self._write(entries)

    def _write(self, entries: list[Entry]) -> None:
        if not (self._folder / "oci-layout").exists():
            write_file(self._folder / "oci-layout", dump(_LAYOUT).decode())
        manifests = [entry.to_descriptor().to_json() for entry in entries]
        write_file(self._index, dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).decode())


def give_name(entries: list[Entry], name: str, entry: Entry) -> None:
    """Give an image a name; who had it before loses it, and stays without a name if it has no other."""
    for old in [found for found in entries if found.name == name]:
        entries.remove(old)
        if not _is_known(entries, old.manifest.digest):
            entries.append(replace(old, name=""))
    entries[:] = [
        found for found in entries if found.name or found.cache_key or found.manifest.digest != entry.manifest.digest
    ]
    entries.append(replace(entry, name=name))


def keep(entries: list[Entry], entry: Entry) -> None:
    """Have an image in the index, without a name if it has none."""
    if not any(
        found.manifest.digest == entry.manifest.digest and found.cache_key == entry.cache_key for found in entries
    ):
        entries.append(entry)


def _is_known(entries: list[Entry], digest: str) -> bool:
    return any(entry.manifest.digest == digest and not entry.cache_key for entry in entries)
