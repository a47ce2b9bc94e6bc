"""Looks for archives of images that should be refused and are not, or that leave something.

    python -m tests.tools.fuzz_images SECONDS [SEED]

Whole archives are damaged in many ways (JSON values exchanged, keys doubled, names that lead out, bytes flipped, tars
cut short, layers that are hostile) and loaded into a store of the fuzzer's own. Each must be loaded whole, or refused
with one line, with nothing of it left and nothing changed outside. As root; needs no network. An archive that shows
something wrong is kept, and named.
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import json
import random
import re
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.errors import InnkeeperError
from backends.image import PruneOptions
from backends.native.images.collecting import Collector
from backends.native.images.config import parse_config
from backends.native.images.importing import import_image
from backends.native.images.loading import load
from backends.native.images.manifest import parse_index, parse_manifest
from backends.native.images.reference import Reference
from backends.native.images.store import ImageStore
from backends.trace import Recorder
from tests.tools.oci_images import layer_tar, make_layout

Archive = dict[str, bytes]
_HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, 10**400, 1.5, 1e308, float("nan"), "", "x", "..", "/etc/passwd",
    "../../../etc/passwd", "\0", "\ud800", "a" * 5000, "sha256:" + "0" * 64, "sha512:" + "0" * 128, [], {}, [None],
    {"": None}, [[]] * 50, "host", "latest", "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v1+json",
)  # fmt: skip


def _seeds(folder: Path) -> list[Archive]:
    """Return whole archives: an OCI layout, docker-archive, and both in one."""
    files = [{"bin/a": b"#!/bin/sh\n", "etc/b": b"->../bin/a"}, {"etc/.wh.b": b"", "etc/c": b"c" * 3000}]
    config = {"Cmd": ["a"], "Env": ["A=b"], "Labels": {"x": "y"}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}},
              "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 10**9}}  # fmt: skip
    layout = make_layout(folder, files, "seed:1", **config)
    layout.name(layout.index([layout.manifest(files[:1], architecture="arm64"), layout.manifest(files[:1])]), "many:1")
    oci = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    described = json.loads(oci["index.json"])["manifests"][0]
    manifest = json.loads(oci["blobs/sha256/" + described["digest"][7:]])
    paths = ["blobs/sha256/" + layer["digest"][7:] for layer in manifest["layers"]]
    config_path = "blobs/sha256/" + manifest["config"]["digest"][7:]
    entry = [{"Config": config_path, "RepoTags": ["seed:1"], "Layers": paths}]
    docker = {path: oci[path] for path in (*paths, config_path)} | {"manifest.json": json.dumps(entry).encode()}
    tars = {f"{number}.tar": layer_tar(content) for number, content in enumerate(files)}
    plain = {**tars, "c.json": oci[config_path], "manifest.json": json.dumps(
        [{"Config": "c.json", "RepoTags": ["seed:1", "more:2"], "Layers": list(tars)}]).encode()}  # fmt: skip
    return [oci, docker, plain, oci | docker]


@dataclass
class Fuzzer:
    """Damages archives and loads them."""

    folder: Path
    chance: random.Random
    seen: Counter[str] = field(default_factory=Counter)
    """What was said, numbers left out."""

    def __post_init__(self) -> None:
        self.store = ImageStore(self.folder / "state")
        self.seeds = _seeds(self.folder / "seed")
        self.outside = self.folder / "outside"
        self.outside.mkdir()
        (self.outside / "victim").write_text("whole")

    def trial(self) -> None:
        """Try one archive. Raises AssertionError, or what should not have come through."""
        kind = self.chance.random()
        if kind < 0.25:
            self._parse()
            return
        data = self._tar(self._damaged(copy.copy(self.chance.choice(self.seeds))))
        if self.chance.random() < 0.3:
            data = self._bytes(data)
        if self.chance.random() < 0.2:
            data = self._bytes(gzip.compress(data, 1)) if self.chance.random() < 0.5 else gzip.compress(data, 1)
        act: Callable[[], object] = lambda: load(self.store, io.BytesIO(data), Recorder("fuzz"))  # noqa: E731
        if kind > 0.95:
            act = lambda: import_image(self.store, "new:1", io.BytesIO(data), Recorder("fuzz"))  # noqa: E731
        self.last = data
        self._check(act)

    def _parse(self) -> None:
        parser = self.chance.choice((parse_manifest, parse_index, parse_config))
        seed = self.chance.choice([data for archive in self.seeds for data in archive.values() if data[:1] in b"{["])
        self.last = self._bytes(self._json(seed)) if self.chance.random() < 0.5 else self._json(seed)
        try:
            parser(self.last)
        except InnkeeperError as error:
            self._one_line(error)
        try:
            Reference.parse(self.last[: self.chance.randrange(60)].decode("latin-1"))
        except InnkeeperError as error:
            self._one_line(error)

    def _check(self, act: Callable[[], object]) -> None:
        try:
            act()
            self.seen["loaded"] += 1
        except InnkeeperError as error:
            self._one_line(error)
            assert self.store.layout.entries() == [], "a refused archive left an image"
        state = self.folder / "state"
        assert not list((state / "images").glob(".*")), "drafts are left"
        assert not list((state / "images/partial").glob("*")), "partial blobs are left"
        for image in self.store.stored():
            assert self.store.layers.stack(image.chain_id) if image.layers else True
        Collector(self.store, {}).prune(PruneOptions(all=True), dry_run=True)
        if self.store.layout.entries():
            Collector(self.store, {}).prune(PruneOptions(all=True), dry_run=False)
        assert not list((state / "images/blobs/sha256").glob("*")), "blobs are left"
        assert not list((state / "layers").glob("*")), "layers are left"
        assert {path.name: path.read_text() for path in self.outside.iterdir()} == {"victim": "whole"}
        assert {path.name for path in self.folder.iterdir()} <= {"state", "seed", "outside"}, "something is outside"

    def _one_line(self, error: InnkeeperError) -> None:
        assert error.message, "an error says nothing"
        assert "\n" not in error.message, f"an error has several lines: {error.message!r}"
        assert len(error.message) < 700, f"an error is very long: {error.message!r}"
        self.seen[re.sub(r"'.*|[0-9a-f]{6,}|[0-9]+", "#", error.message)[:60]] += 1

    def _damaged(self, archive: Archive) -> Archive:
        for _ in range(self.chance.choice((0, 1, 1, 1, 2, 4))):
            name = self.chance.choice(list(archive))
            match self.chance.randrange(7):
                case 0:
                    del archive[name]
                    if not archive:
                        return {"x": b""}
                case 1:
                    archive[name] = self._bytes(archive[name])
                case 2:
                    other = self.chance.choice(list(archive))
                    archive[name], archive[other] = archive[other], archive[name]
                case 3:
                    archive[self._name()] = archive[name]
                case 4:
                    archive = self._consistent(archive)
                case _:
                    jsons = [key for key, data in archive.items() if data[:1] in (b"{", b"[")]
                    if jsons:
                        chosen = self.chance.choice(jsons)
                        archive[chosen] = self._json(archive[chosen])
        return archive

    def _consistent(self, archive: Archive) -> Archive:
        """Exchange a layer or config of a layout for another content, with all digests made right again."""
        try:
            index = json.loads(archive["index.json"])
            entry = self.chance.choice(index["manifests"])
            manifest = json.loads(archive["blobs/sha256/" + entry["digest"][7:]])
            config = json.loads(archive["blobs/sha256/" + manifest["config"]["digest"][7:]])
            tar = self._layer()
            config["rootfs"]["diff_ids"][0] = "sha256:" + hashlib.sha256(tar).hexdigest()
            layer = gzip.compress(tar, 1, mtime=0)
            manifest["layers"][0] |= self._blob(archive, layer)
            manifest["config"] |= self._blob(archive, self._json(json.dumps(config).encode()))
            entry |= self._blob(archive, json.dumps(manifest).encode())
            archive["index.json"] = json.dumps(index).encode()
        except (KeyError, ValueError, TypeError, IndexError, AttributeError, RecursionError):
            pass
        return archive

    def _blob(self, archive: Archive, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        archive[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def _layer(self) -> bytes:
        """Return a layer that tries to get out, or that is damaged."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for _ in range(self.chance.randrange(6)):
                entry = tarfile.TarInfo(self._name())
                entry.type = self.chance.choice((tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE,
                                                 tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.BLKTYPE))  # fmt: skip
                entry.linkname = self._name()
                entry.mode, entry.uid = self.chance.choice((0, 0o644, 0o4755, 0o777)), self.chance.choice((0, 1, 2**31))
                data = b"x" * self.chance.choice((0, 1, 513)) if entry.isreg() else b""
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        data = buffer.getvalue()
        return self._bytes(data) if self.chance.random() < 0.2 else data

    def _name(self) -> str:
        parts = ("a", "etc", "..", "../../..", "/", str(self.outside), "victim", "out", ".wh.a", ".wh...",
                 ".wh..wh..opq", ".wh.", "blobs/sha256/" + "0" * 64, "x" * 120, "é", "manifest.json", "index.json",
                 "\n", ".")  # fmt: skip
        return "/".join(self.chance.choice(parts) for _ in range(self.chance.randrange(1, 4)))

    def _json(self, data: bytes) -> bytes:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return self._bytes(data)
        if self.chance.random() < 0.05:
            return b'{"a":' * 5000 + b"1" + b"}" * 5000
        if self.chance.random() < 0.05:
            return data.replace(b"{", b'{"size":1,"size":2,', 1)
        places: list[tuple[Any, Any]] = []

        def walk(node: Any) -> None:
            items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
            for key, inner in items:
                places.append((node, key))
                walk(inner)

        walk(value)
        for _ in range(self.chance.choice((1, 1, 2))):
            if places:
                node, key = self.chance.choice(places)
                pool = (*_HOSTILE, *(other[place] for other, place in places if _is_in(other, place)))
                node[key] = copy.deepcopy(self.chance.choice(pool))
        try:
            return json.dumps(value).encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError):
            return data

    def _bytes(self, data: bytes) -> bytes:
        if not data:
            return data
        place = self.chance.randrange(len(data))
        match self.chance.randrange(4):
            case 0:
                return data[:place]
            case 1:
                return data[:place] + bytes([self.chance.randrange(256)]) + data[place + 1 :]
            case 2:
                return data[:place] + self.chance.randbytes(8) + data[place + 8 :]
            case _:
                return data[:place] + data[place : place + 600] + data[place:]

    def _tar(self, archive: Archive) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(
            fileobj=buffer, mode="w", format=self.chance.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
        ) as tar:
            for name, data in archive.items():
                entry = tarfile.TarInfo(name)
                if self.chance.random() < 0.03:
                    entry.type, entry.linkname = tarfile.SYMTYPE, self.chance.choice((name, self._name()))
                    tar.addfile(entry)
                else:
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
        return buffer.getvalue()


def _is_in(node: Any, key: Any) -> bool:
    return key in node if isinstance(node, dict) else key < len(node)


def fuzz(seconds: float, seed: int) -> Fuzzer:
    """Look for trouble for a time; raises what was found, with the archive in the note."""
    folder = Path(tempfile.mkdtemp(prefix="inn-fuzz-"))
    fuzzer = Fuzzer(folder, random.Random(seed))
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            try:
                fuzzer.trial()
            except BaseException as error:
                found = Path(tempfile.mkstemp(prefix="inn-fuzz-found-")[1])
                found.write_bytes(fuzzer.last)
                error.add_note(f"seed {seed}; the archive is {found}")
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return fuzzer


def main() -> None:
    """Fuzz for so many seconds and tell what was said."""
    seconds, seed = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()
    try:
        seen = fuzz(seconds, seed).seen
    except Exception:  # the end of the program: it reports
        traceback.print_exc()
        sys.exit(1)
    for said, count in seen.most_common():
        print(f"{count:8}  {said}")
    print(f"{sum(seen.values()):8}  in all; seed {seed}")


if __name__ == "__main__":
    main()
