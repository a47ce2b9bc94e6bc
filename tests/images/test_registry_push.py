"""Pushing: only what is not there, in pieces where a registry wants it so, and on again where it broke off."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backends.errors import Cancelled, InnkeeperError, NotFound
from backends.image import TransferOptions
from backends.native.images.manifest import parse_index, parse_manifest
from backends.native.images.reference import Reference
from backends.native.registry import client
from backends.native.registry.failures import Broken
from backends.native.registry.push import push_index
from tests.images.conftest import Mover
from tests.tools.needs import needs
from tests.tools.oci_images import Layout, make_layout
from tests.tools.odd_registry import Asked, serving_oddly
from tests.tools.registry import serving, skopeo


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return make_layout(tmp_path / "oci", [{"a": os.urandom(300_000)}])


@pytest.fixture
def digest(mover: Mover, layout: Layout) -> str:
    """An image in the mover's store."""
    with serving_oddly(layout) as registry:
        return mover.pull(f"{registry.address}/app:1")


@dataclass
class Takes:
    """A registry that takes uploads, and what it has taken. `twist` may answer a PATCH itself."""

    twist: Callable[[Asked, bytearray], bool] = lambda asked, taken: False
    uploads: list[bytearray] = field(default_factory=list)
    blobs: set[str] = field(default_factory=set)
    manifests: dict[str, bytes] = field(default_factory=dict)
    ranges: list[str] = field(default_factory=list)

    def __call__(self, asked: Asked) -> bool:
        path = asked.path.partition("?")[0]
        if asked.command == "HEAD":
            asked.answer(200 if path.rpartition("/")[2] in self.blobs else 404)
        elif asked.command == "POST":
            self.uploads.append(bytearray())
            self._at(asked, 202, len(self.uploads) - 1)
        elif "/manifests/" in path:
            self.manifests[path.rpartition("/")[2]] = asked.body
            asked.answer(201, b"", {"Docker-Content-Digest": f"sha256:{hashlib.sha256(asked.body).hexdigest()}"})
        else:
            self._upload(asked, int(path.rpartition("/")[2]))
        return True

    def _upload(self, asked: Asked, number: int) -> None:
        taken = self.uploads[number]
        if asked.command == "PUT":
            self.blobs.add(f"sha256:{hashlib.sha256(taken).hexdigest()}")
            return asked.answer(201)
        if asked.command == "PATCH":
            self.ranges.append(asked.headers.get("Content-Range", ""))
            if self.twist(asked, taken):
                return None
            taken += asked.body
        return self._at(asked, 202 if asked.command == "PATCH" else 204, number)

    def _at(self, asked: Asked, status: int, number: int) -> None:
        has = max(0, len(self.uploads[number]) - 1)
        asked.answer(status, b"", {"Location": f"/v2/app/blobs/uploads/{number}", "Range": f"0-{has}"})


def test_a_push_sends_blobs_first_and_the_manifest_last(mover: Mover, layout: Layout, digest: str) -> None:
    takes = Takes()
    with serving_oddly(layout, takes) as registry:
        assert mover.push(f"{registry.address}/app:2", digest) == digest
        assert registry.asked[-1][:2] == ("PUT", "/v2/app/manifests/2")

    assert takes.manifests == {"2": mover.blobs.read(digest, 1 << 20)}
    manifest = parse_manifest(takes.manifests["2"])
    assert takes.blobs == {manifest.config.digest, *(layer.digest for layer in manifest.layers)}
    assert takes.ranges == ["", ""]


def test_an_index_follows_its_images_and_knows_them_as_they_are_sent(mover: Mover, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "oci")
    every = [layout.manifest([{"a": kind.encode() * 90}], architecture=kind, compression="") for kind in ("arm", "386")]
    index = json.dumps({"schemaVersion": 2, "manifests": every}).encode()
    for path in (layout.folder / "blobs/sha256").iterdir():
        mover.blobs.put(path.read_bytes())
    takes = Takes()
    with serving_oddly(layout, takes) as registry:
        name = Reference.parse(f"{registry.address}/app:2")
        digest = push_index(name, index, TransferOptions(plain_http=True), mover.blobs, mover.recorder)
        assert registry.asked[-1][:2] == ("PUT", "/v2/app/manifests/2")

    sent = parse_index(takes.manifests["2"])
    assert digest == f"sha256:{hashlib.sha256(takes.manifests['2']).hexdigest()}"
    assert [str(entry.platform) for entry in sent] == ["linux/arm", "linux/386"]
    for entry, before in zip(sent, every, strict=True):
        assert entry.digest != before["digest"]
        (layer,) = parse_manifest(takes.manifests[entry.digest]).layers
        assert layer.media_type.endswith("+gzip")
        assert layer.digest in takes.blobs


def test_who_takes_no_more_at_once_gets_pieces(
    mover: Mover, layout: Layout, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_CHUNK", 100_000)

    def too_large(asked: Asked, taken: bytearray) -> bool:
        if len(asked.body) > 150_000:
            asked.answer(413)
        return len(asked.body) > 150_000

    takes = Takes(too_large)
    with serving_oddly(layout, takes) as registry:
        mover.push(f"{registry.address}/app:2", digest)

    assert takes.ranges[1:4] == ["0-99999", "100000-199999", "200000-299999"]
    assert len(takes.blobs) == 2
    assert set(takes.blobs) == {found for found in mover.blobs.digests() if found != digest}


def test_an_upload_that_broke_off_goes_on_where_the_registry_has_it(mover: Mover, layout: Layout, digest: str) -> None:
    broken: list[str] = []

    def breaks(asked: Asked, taken: bytearray) -> bool:
        if len(asked.body) < 100_000 or broken:
            return False
        broken.append(asked.path)
        taken += asked.body[:120_000]
        asked.cut()
        return True

    takes = Takes(breaks)
    with serving_oddly(layout, takes) as registry:
        mover.push(f"{registry.address}/app:2", digest)

    assert takes.ranges[1].startswith("120000-")
    assert set(takes.blobs) == {found for found in mover.blobs.digests() if found != digest}


def test_an_upload_that_is_forgotten_begins_anew(mover: Mover, layout: Layout, digest: str) -> None:
    asked_for: list[str] = []

    def breaks(asked: Asked, taken: bytearray) -> bool:
        asked_for.append(asked.path)
        if len(asked_for) == 1:
            asked.cut()
        return len(asked_for) == 1

    takes = Takes(breaks)
    with serving_oddly(layout, takes) as registry:
        mover.push(f"{registry.address}/app:2", digest)

    assert set(takes.blobs) == {found for found in mover.blobs.digests() if found != digest}


def test_what_is_refused_for_the_moment_is_sent_again(mover: Mover, layout: Layout, digest: str) -> None:
    takes, refused = Takes(), set[tuple[str, str]]()

    def busy(asked: Asked) -> bool:
        what = (asked.command, asked.path.partition("?")[0])
        if what in refused:
            return takes(asked)
        refused.add(what)
        asked.answer(503 if len(refused) % 2 else 429)
        return True

    with serving_oddly(layout, busy) as registry:
        mover.push(f"{registry.address}/app:2", digest)

    assert {command for command, _ in refused} >= {"HEAD", "POST", "PATCH", "PUT"}
    assert takes.manifests
    assert set(takes.blobs) == {found for found in mover.blobs.digests() if found != digest}


def test_a_push_that_is_cancelled_makes_no_image_there(mover: Mover, layout: Layout, digest: str) -> None:
    takes = Takes()
    mover.watcher.enough = lambda progress: progress is not None and progress.text == "uploading"
    with serving_oddly(layout, takes) as registry, pytest.raises(Cancelled):
        mover.push(f"{registry.address}/app:2", digest)

    assert takes.manifests == {}


def test_a_layer_that_is_missing_here_is_told_before_anything_is_sent(
    mover: Mover, layout: Layout, digest: str
) -> None:
    layer = parse_manifest(mover.blobs.read(digest, 1 << 20)).layers[0].digest
    mover.blobs.path(layer).unlink()
    with serving_oddly(layout, Takes()) as registry:
        with pytest.raises(NotFound, match=layer):
            mover.push(f"{registry.address}/app:2", digest)
        assert registry.asked == []


def test_a_registry_that_keeps_something_else_is_found_out(mover: Mover, layout: Layout, digest: str) -> None:
    takes = Takes()

    def lies(asked: Asked) -> bool:
        if "/manifests/" not in asked.path:
            return takes(asked)
        asked.answer(201, b"", {"Docker-Content-Digest": "sha256:" + "0" * 64})
        return True

    with serving_oddly(layout, lies) as registry, pytest.raises(InnkeeperError, match="as something else"):
        mover.push(f"{registry.address}/app:2", digest)


@needs("docker-registry", "skopeo")
def test_a_broken_upload_goes_on_at_debians_registry(
    tmp_path: Path, mover: Mover, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_CHUNK", 100_000)
    sent = client.Client._send_piece
    failed: list[int] = []

    def fails_once(self: client.Client, place: str, offset: int, length: int, read: object, *, ranged: bool) -> str:
        where = sent(self, place, offset, min(length, 70_000), read, ranged=True)  # type: ignore[arg-type]
        if length > 100_000 and not failed:
            failed.append(offset)
            raise Broken("the answer never came")
        return where if length <= 70_000 else sent(self, where, offset + 70_000, length - 70_000, read, ranged=True)  # type: ignore[arg-type]

    monkeypatch.setattr(client.Client, "_send_piece", fails_once)
    with serving(tmp_path / "registry") as registry:
        mover.push(f"{registry.address}/app:2", digest)
        assert failed == [0]
        skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{registry.address}/app:2", f"dir:{tmp_path / 'out'}")
