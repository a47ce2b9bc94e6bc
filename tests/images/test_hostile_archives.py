"""Archives made to do harm are refused with one line; nothing is written outside, nothing half made stays."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends.errors import InnkeeperError
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.kernel.conftest import native, output_of, root, run
from tests.tools.fuzz_images import fuzz
from tests.tools.needs import needs
from tests.tools.oci_images import CONFIG, LAYER, MANIFEST, layer_tar

SECONDS = float(os.environ.get("INNKEEPER_FUZZ_S", "4"))
pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(SECONDS + 120)]
__all__ = ["native", "output_of", "root", "run"]
R = Recorder("test")
TAR = layer_tar({"a": b"a"})
DIFF_ID = "sha256:" + hashlib.sha256(TAR).hexdigest()
GOOD_CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": [DIFF_ID]},
}

Files = dict[str, bytes | tuple[bytes, str]]
"""Content, or (type, target) of a link."""


def archive(files: Files) -> bytes:
    """Return a tar with any names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                entry.type, entry.linkname = content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def docker(entry: dict[str, Any] | list[Any] | bytes, **more: bytes | tuple[bytes, str]) -> bytes:
    """Return a docker-archive with a manifest.json of any kind."""
    text = entry if isinstance(entry, bytes) else json.dumps(entry if isinstance(entry, list) else [entry]).encode()
    files: Files = {"c.json": json.dumps(GOOD_CONFIG).encode(), "l.tar": TAR}
    return archive({**files, **{name.replace("__", "."): data for name, data in more.items()}, "manifest.json": text})


def good() -> dict[str, Any]:
    return {"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar"]}


def oci(
    change: Callable[[dict[str, Any], dict[str, Any]], object] = lambda manifest, config: None,
    *,
    manifest_text: bytes | None = None,
    config_text: bytes | None = None,
    tar: bytes = TAR,
    index: dict[str, Any] | None = None,
) -> bytes:
    """Return an OCI layout whose manifest and config were changed, with digests that are right."""
    files: Files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        files[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    config = json.loads(json.dumps(GOOD_CONFIG))
    config["rootfs"]["diff_ids"] = ["sha256:" + hashlib.sha256(tar).hexdigest()]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [blob(tar, LAYER)]}
    change(manifest, config)
    if "config" not in manifest:
        manifest["config"] = blob(config_text or json.dumps(config).encode(), CONFIG)
    entry = blob(manifest_text or json.dumps(manifest).encode(), MANIFEST)
    files["index.json"] = json.dumps(index or {"schemaVersion": 2, "manifests": [entry]}).encode()
    return archive(files)


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
NOWHERE = {"mediaType": LAYER, "digest": "sha256:" + "0" * 64, "size": 1}
HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty"),
    "noise": (os.urandom(4096), "no archive"),
    "zeros": (b"\0" * 10240, r"neither manifest\.json nor index\.json"),
    "a root file system": (archive({"etc/passwd": b"x"}), "neither"),
    "gzip cut short": (gzip.compress(docker(good()))[:-40], "damaged or cut short"),
    "tar cut short": (docker(good())[:-9000], "cut short|is not in the archive|neither"),
    "gzip of noise": (b"\x1f\x8b\x08" + os.urandom(500), "damaged"),
    "no JSON": (docker(b"{"), "no valid JSON"),
    "an object": (docker(b"{}"), "no array"),
    "no images": (docker([]), "none in it"),
    "deep JSON": (docker(b"[" + DEEP + b"]"), "deeper"),
    "a huge number": (docker(b"[" + b"9" * 100_000 + b"]"), "digits"),
    "not a number": (docker(b"[NaN]"), "no JSON"),
    "long JSON": (docker(b'["' + b"a" * (5 << 20) + b'"]'), "longer than|too many"),
    "a key twice": (docker(b'[{"Config":"c.json","Config":"d.json"}]'), "twice"),
    "dots": (docker(good() | {"Config": "../../etc/passwd"}), "leads out"),
    "absolute": (docker(good() | {"Config": "/etc/passwd"}), "leads out"),
    "dots in layers": (docker(good() | {"Layers": ["../l.tar"]}), "leads out"),
    "a link to a host file": (docker(good(), l__tar=(tarfile.SYMTYPE, "/etc/passwd")), "not in the archive"),
    "a link that climbs": (docker(good(), l__tar=(tarfile.SYMTYPE, "../../../etc/passwd")), "not in the archive"),
    "a link to itself": (docker(good(), l__tar=(tarfile.SYMTYPE, "l.tar")), "not in the archive"),
    "a hard link out": (docker(good(), l__tar=(tarfile.LNKTYPE, "/etc/passwd")), "not in the archive"),
    "a config that is missing": (docker(good() | {"Config": "d.json"}), "config is not in the archive"),
    "too many layers": (docker(good() | {"Layers": ["l.tar", "l.tar"]}), "speaks of 1 layers"),
    "a bad name": (docker(good() | {"RepoTags": ["../../x"]}), "no name of an image"),
    "a name with a digest": (docker(good() | {"RepoTags": ["a@sha256:" + "0" * 64]}), "no name of an image"),
    "the built-in name": (docker(good() | {"RepoTags": ["host"]}), "built-in"),
    "names that are no texts": (docker(good() | {"RepoTags": [7]}), "no text"),
    "another layer than the config's": (docker(good(), l__tar=layer_tar({"b": b"b"})), "not what it should be"),
    "a layer that is none": (docker(good(), l__tar=b"no tar" * 100), "cannot unpack|not what it should be"),
    "an artifact": (oci(lambda m, c: m.update(artifactType="application/x")), "no image"),
    "a config of another type": (
        oci(lambda m, c: m.update(config={"mediaType": "application/x", "digest": DIFF_ID, "size": 1})), "no image"),
    "schema 1": (oci(manifest_text=b'{"schemaVersion":1,"fsLayers":[]}'), "schema 1"),
    "no schema": (oci(manifest_text=b"{}"), "schemaVersion"),
    "both at once": (oci(lambda m, c: m.update(manifests=[])), "at once"),
    "an index by its type": (
        oci(lambda m, c: m.update(mediaType="application/vnd.oci.image.index.v1+json")), "not what its mediaType says"),
    "a layer of unknown type": (oci(lambda m, c: m["layers"][0].update(mediaType="text/plain")), "unknown type"),
    "a layer that is not there": (oci(lambda m, c: m.update(layers=[NOWHERE])), "not in the archive"),
    "a size too large": (oci(lambda m, c: m["layers"][0].update(size=1 << 40)), "not what it should be"),
    "a negative size": (oci(lambda m, c: m["layers"][0].update(size=-1)), "no size"),
    "a size as text": (oci(lambda m, c: m["layers"][0].update(size="9")), "no size"),
    "a digest that leads out": (oci(lambda m, c: m["layers"][0].update(digest="sha256:../../../x")), "no digest"),
    "another digest": (oci(lambda m, c: m["layers"][0].update(digest="sha512:" + "0" * 128)), "no digest"),
    "ten thousand layers": (oci(lambda m, c: m.update(layers=m["layers"] * 10_000)), "more than 1000 layers"),
    "no diff_ids": (oci(lambda m, c: c.update(rootfs={"type": "layers"})), "speaks of 0 layers"),
    "diff_ids of others": (oci(lambda m, c: c["rootfs"].update(diff_ids=["sha256:" + "1" * 64])), "not what it should"),
    "a rootfs of another type": (oci(lambda m, c: c.update(rootfs={"type": "magic"})), "unknown type"),
    "a variable without a name": (oci(lambda m, c: c.update(config={"Env": ["=x"]})), "NAME=VALUE"),
    "NUL in the command": (oci(lambda m, c: c.update(config={"Cmd": ["a\0b"]})), "no text"),
    "half a surrogate": (oci(lambda m, c: c.update(config={"User": "\ud800"})), "Unicode"),
    "a check that is none": (oci(lambda m, c: c.update(config={"Healthcheck": {"Test": ["X"]}})), "neither NONE"),
    "a config that is deep": (oci(config_text=DEEP), "deeper"),
    "a config that is no JSON": (oci(config_text=b"\xff\xfe"), "no valid JSON"),
    "an index without manifests": (oci(index={"schemaVersion": 2}), "no image index"),
    "an index of texts": (oci(index={"schemaVersion": 2, "manifests": ["x"]}), "no object"),
    "a whiteout of the folder above": (oci(tar=archive({"a/.wh...": b""})), "takes away nothing"),
    "a whiteout of the folder": (oci(tar=archive({"a/.wh..": b""})), "takes away nothing"),
    "a hard link to the host": (oci(tar=archive({"a": (tarfile.LNKTYPE, "/etc/passwd")})), "cannot unpack"),
    "a layer cut short": (oci(tar=layer_tar({"a": b"a" * 5000})[:2000]), "cannot unpack"),
}  # fmt: skip


def nothing_is_left(root: Path) -> bool:
    """Say whether the store has no image, no blob, no layer, and nothing half made."""
    places = ("images/blobs/sha256", "images/partial", "layers")
    found = [path for name in places for path in (root / name).glob("*")]
    index = root / "images/index.json"
    return (
        not found
        and not list((root / "images").glob(".*"))
        and (not index.exists() or json.loads(index.read_text())["manifests"] == [])
    )


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_in_one_line_and_leaves_nothing(
    native: NativeBackend, root: Path, kind: str
) -> None:
    data, words = HOSTILE[kind]
    with pytest.raises(InnkeeperError, match=words) as caught:
        native.image_load(io.BytesIO(data), R)

    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 600
    assert nothing_is_left(root)


@pytest.mark.parametrize(
    "tar",
    [
        archive({"out": (tarfile.SYMTYPE, "/OUTSIDE"), "out/new": b"x"}),
        archive({"out": (tarfile.SYMTYPE, "../../../../../OUTSIDE"), "out/new": b"x"}),
        archive({"../../../../OUTSIDE/new": b"x", "/OUTSIDE/new": b"x"}),
        archive({"out": (tarfile.SYMTYPE, "/OUTSIDE/victim"), "./out": b"gone"}),
        archive({"out": (tarfile.SYMTYPE, "/OUTSIDE"), "out/.wh.victim": b"", "out/.wh..wh..opq": b""}),
    ],
)  # fmt: skip
def test_a_hostile_layer_changes_nothing_outside(native: NativeBackend, root: Path, tar: bytes) -> None:
    outside = root / "o"  # as long as the word that it stands for, so that the tar stays whole
    outside.mkdir()
    (outside / "victim").write_text("whole")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(tar)) as given, tarfile.open(fileobj=buffer, mode="w") as made:
        for member in given:
            member.name = member.name.replace("/OUTSIDE", str(outside))
            member.linkname = member.linkname.replace("/OUTSIDE", str(outside))
            made.addfile(member, given.extractfile(member) if member.isreg() else None)
    try:
        native.image_load(io.BytesIO(oci(tar=buffer.getvalue())), R)
    except InnkeeperError:
        assert nothing_is_left(root)
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"victim": "whole"}


def test_a_second_image_that_is_bad_keeps_the_first_one_out_too(native: NativeBackend, root: Path) -> None:
    bad = good() | {"RepoTags": ["b:1"], "Layers": ["m.tar"]}
    with pytest.raises(InnkeeperError):
        native.image_load(io.BytesIO(docker([good(), bad], m__tar=layer_tar({"b": b"b"}))), R)
    assert nothing_is_left(root)


def test_the_good_archive_that_the_hostile_ones_were_made_of_is_loaded(native: NativeBackend) -> None:
    assert [image.name for image in native.image_load(io.BytesIO(docker(good())), R)] == ["a:1"]
    assert len(native.image_load(io.BytesIO(oci()), R)) == 1


def test_archives_damaged_at_random_are_loaded_whole_or_refused() -> None:
    assert sum(fuzz(SECONDS, seed=int.from_bytes(os.urandom(4))).seen.values()) > 0
