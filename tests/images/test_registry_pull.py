"""Pulling from Debian's docker-registry: only what is missing, whatever broke off, for the right platform."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.errors import BackendUnavailable, Cancelled, NotFound, PermissionDenied, UsageError
from backends.native.images.manifest import parse_manifest
from tests.images.conftest import Mover
from tests.tools.needs import needs
from tests.tools.oci_images import ARCHITECTURE, Layout, make_layout
from tests.tools.odd_registry import Asked, serving_oddly
from tests.tools.registry import Registry, serving, skopeo

pytestmark = needs("docker-registry", "skopeo")

BASE = {"base": os.urandom(200_000)}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serving(tmp_path_factory.mktemp("registry")) as found:
        yield found


def test_a_pull_brings_manifest_configuration_and_layers_and_they_are_what_skopeo_pushed(
    tmp_path: Path, registry: Registry, mover: Mover
) -> None:
    layout = make_layout(tmp_path / "oci", [BASE, {"app": b"1"}])
    layout.push("image", f"{registry.address}/team/app:1")

    digest = mover.pull(f"{registry.address}/team/app:1")

    named = json.loads((layout.folder / "index.json").read_text())["manifests"][0]["digest"]
    assert digest == named
    here = {path.name for path in (layout.folder / "blobs/sha256").iterdir()}
    assert {found.removeprefix("sha256:") for found in mover.blobs.digests()} == here
    assert len(mover.watcher.texts("downloaded")) == 2
    assert mover.leftovers() == []


def test_the_second_pull_moves_only_the_layer_that_is_new(tmp_path: Path, registry: Registry, mover: Mover) -> None:
    make_layout(tmp_path / "1", [BASE, {"app": b"1"}]).push("image", f"{registry.address}/second:1")
    make_layout(tmp_path / "2", [BASE, {"app": b"2"}]).push("image", f"{registry.address}/second:2")
    mover.pull(f"{registry.address}/second:1")
    registry.forget()

    digest = mover.pull(f"{registry.address}/second:2")

    manifest = parse_manifest(mover.blobs.read(digest, 1 << 20))
    sent = {asked.path.rpartition("/")[2]: asked.size_bytes for asked in registry.blobs_sent()}
    assert sent == {found.digest: found.size for found in (manifest.config, manifest.layers[1])}
    assert mover.watcher.texts("already here") == [manifest.layers[0].digest]


def test_a_pull_of_what_is_all_here_asks_for_the_manifest_alone(
    tmp_path: Path, registry: Registry, mover: Mover
) -> None:
    make_layout(tmp_path / "1", [BASE]).push("image", f"{registry.address}/known:1")
    mover.pull(f"{registry.address}/known:1")
    registry.forget()

    mover.pull(f"{registry.address}/known:1")

    assert [asked.path for asked in registry.requests()] == ["/v2/known/manifests/1"]


def test_an_image_can_be_pulled_by_its_digest(tmp_path: Path, registry: Registry, mover: Mover) -> None:
    make_layout(tmp_path / "1", [BASE]).push("image", f"{registry.address}/app:by-digest")
    digest = mover.pull(f"{registry.address}/app:by-digest")

    assert mover.pull(f"{registry.address}/app@{digest}") == digest


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_layers_come_however_they_are_compressed(
    tmp_path: Path, registry: Registry, mover: Mover, compression: str
) -> None:
    layout = Layout(tmp_path / "oci")
    layout.name(layout.manifest([BASE], compression=compression), "image")
    layout.push("image", f"{registry.address}/packed:x{compression}")

    digest = mover.pull(f"{registry.address}/packed:x{compression}")

    media_type = parse_manifest(mover.blobs.read(digest, 1 << 20)).layers[0].media_type
    assert media_type.rpartition("tar")[2] == f"+{compression}"


def test_docker_s_own_format_is_read(tmp_path: Path, registry: Registry, mover: Mover) -> None:
    layout = make_layout(tmp_path / "oci", [BASE])
    layout.push("image", f"{registry.address}/docker:1", "--format", "v2s2")

    digest = mover.pull(f"{registry.address}/docker:1")

    manifest = parse_manifest(mover.blobs.read(digest, 1 << 20))
    assert manifest.media_type == "application/vnd.docker.distribution.manifest.v2+json"


def _index(folder: Path) -> Layout:
    layout = Layout(folder)
    images = [layout.manifest([{"arch": name.encode()}], architecture=name) for name in ("s390x", ARCHITECTURE)]
    images += [
        layout.manifest([{"arch": f"arm {variant}".encode()}], architecture="arm", variant=variant)
        for variant in ("v5", "v7")
    ]
    layout.name(layout.index(images), "image")
    return layout


@pytest.mark.parametrize(
    "platform, wanted",
    [("", {"architecture": ARCHITECTURE}), ("linux/s390x", {"architecture": "s390x"}),
     ("linux/arm/v7", {"variant": "v7"}), ("linux/arm/v6", {"variant": "v5"}), ("arm", {"variant": "v7"})],
)  # fmt: skip
def test_of_several_platforms_the_one_that_fits_is_brought_and_no_other(
    tmp_path: Path, registry: Registry, mover: Mover, platform: str, wanted: dict[str, str]
) -> None:
    layout = _index(tmp_path / "oci")
    layout.push("image", f"{registry.address}/many:1")

    digest = mover.pull(f"{registry.address}/many:1", platform=platform)

    assert json.loads(mover.blobs.read(digest, 1 << 20))["manifests"]
    configs = [json.loads(data) for data in (mover.blobs.read(found, 1 << 22) for found in mover.blobs.digests())
               if data[:1] == b"{" and b'"rootfs"' in data]  # fmt: skip
    assert len(configs) == 1
    assert wanted.items() <= configs[0].items()


def test_a_platform_that_is_not_there_is_told_with_those_that_are(
    tmp_path: Path, registry: Registry, mover: Mover
) -> None:
    _index(tmp_path / "oci").push("image", f"{registry.address}/many:2")

    with pytest.raises(NotFound, match="not there for linux/mips64le") as caught:
        mover.pull(f"{registry.address}/many:2", platform="linux/mips64le")
    assert "linux/arm/v5" in caught.value.hint
    with pytest.raises(UsageError):
        mover.pull(f"{registry.address}/many:2", platform="linux//")


def test_what_is_not_there_is_told_in_one_line(registry: Registry, mover: Mover) -> None:
    with pytest.raises(NotFound) as caught:
        mover.pull(f"{registry.address}/no/such:1")
    assert caught.value.message.startswith(f"cannot pull {registry.address}/no/such:1: ")
    assert "\n" not in caught.value.message


def test_without_tls_only_where_it_was_asked_for(registry: Registry, mover: Mover) -> None:
    with pytest.raises(BackendUnavailable, match="does not speak TLS") as caught:
        mover.pull(f"{registry.address}/team/app:1", plain_http=False)
    assert "--plain-http" in caught.value.hint


# Broken connections


def _big(folder: Path) -> Layout:
    return make_layout(folder, [{"big": os.urandom(3_000_000)}])


def test_a_connection_that_breaks_is_taken_up_where_it_was(tmp_path: Path, mover: Mover) -> None:
    layout = _big(tmp_path / "oci")
    begins = []

    def twist(asked: Asked) -> bool:
        if "/blobs/" not in asked.path or len(asked.blob()) < 100_000:
            return False
        data, begin = asked.blob(), asked.begin()
        begins.append(begin)
        where = {
            "Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}",
            "Content-Length": str(len(data) - begin),
        }
        asked.answer(206 if begin else 200, data[begin : begin + 1_000_000], where)
        if begin + 1_000_000 < len(data):
            asked.cut()
        return True

    with serving_oddly(layout, twist) as registry:
        mover.pull(f"{registry.address}/app:1")

    assert begins == [0, 1_000_000, 2_000_000, 3_000_000]
    assert any("trying again" in line for line in mover.watcher.lines)


def test_a_pull_that_is_cancelled_leaves_what_has_come_and_the_next_one_goes_on_there(
    tmp_path: Path, mover: Mover
) -> None:
    layout = _big(tmp_path / "oci")
    mover.watcher.enough = lambda progress: progress is not None and progress.done > 1_000_000
    with serving_oddly(layout) as registry, pytest.raises(Cancelled):
        mover.pull(f"{registry.address}/app:1")
    assert len(mover.leftovers()) == 1
    came = (mover.folder / "partial" / mover.leftovers()[0]).stat().st_size

    again = Mover(mover.folder)
    with serving_oddly(layout) as registry:
        again.pull(f"{registry.address}/app:1")
        ranges = [headers["Range"] for _, path, headers in registry.asked if "/blobs/" in path and "Range" in headers]

    assert came > 1_000_000
    assert ranges == [f"bytes={came}-"]
    assert again.leftovers() == []


def test_what_has_come_of_a_layer_outlives_the_failure_of_another_one(tmp_path: Path, mover: Mover) -> None:
    layout = make_layout(tmp_path / "oci", [{"big": os.urandom(3_000_000)}, {"bad": os.urandom(50_000)}])
    mover.watcher.enough = lambda progress: progress is not None and progress.done > 1_000_000
    with serving_oddly(layout) as registry, pytest.raises(Cancelled):
        mover.pull(f"{registry.address}/app:1")
    manifest = json.loads((layout.folder / "index.json").read_text())["manifests"][0]["digest"]
    big = parse_manifest((layout.folder / "blobs/sha256" / manifest[7:]).read_bytes()).layers[0].digest
    partial = mover.folder / "partial" / big[7:]
    for path in partial.parent.iterdir():
        if path != partial:
            path.unlink()  # the other one may have come whole
    resumed = threading.Event()

    def twist(asked: Asked) -> bool:
        if "/blobs/" not in asked.path or len(asked.blob()) < 10_000:
            return False
        if len(asked.blob()) > 1_000_000:
            resumed.set()
            data, begin = asked.blob(), asked.begin()
            where = {
                "Content-Range": f"bytes {begin}-{len(data)}/{len(data)}",
                "Content-Length": str(len(data) - begin),
            }
            asked.answer(206, data[begin : begin + 300_000], where)
            for at in range(begin + 300_000, len(data), 20_000):
                asked.wfile.write(data[at : at + 20_000])
                failed.wait(0.02)
            return True
        resumed.wait(10)
        asked.answer(403)
        failed.set()
        return True

    failed = threading.Event()
    again = Mover(mover.folder)
    for blob in again.blobs.digests():
        again.blobs.path(blob).unlink()
    with serving_oddly(layout, twist) as registry, pytest.raises(PermissionDenied):
        again.pull(f"{registry.address}/app:1")

    assert again.blobs.has(big) or partial.stat().st_size > 1_000_000


def test_a_registry_that_cannot_go_on_in_the_middle_sends_all_of_it_again(tmp_path: Path, mover: Mover) -> None:
    layout = _big(tmp_path / "oci")
    mover.watcher.enough = lambda progress: progress is not None and progress.done > 1_000_000
    with serving_oddly(layout) as registry, pytest.raises(Cancelled):
        mover.pull(f"{registry.address}/app:1")

    def no_ranges(asked: Asked) -> bool:
        if "Range" in asked.headers:
            asked.answer(200, asked.blob())
        return "Range" in asked.headers

    again = Mover(mover.folder)
    with serving_oddly(layout, no_ranges) as registry:
        again.pull(f"{registry.address}/app:1")
    assert again.leftovers() == []


def test_a_part_that_was_wrong_is_fetched_anew(tmp_path: Path, mover: Mover) -> None:
    layout = _big(tmp_path / "oci")
    manifest = json.loads((layout.folder / "index.json").read_text())["manifests"][0]["digest"]
    layer = parse_manifest((layout.folder / "blobs/sha256" / manifest[7:]).read_bytes()).layers[0].digest
    (mover.folder / "partial").mkdir(parents=True)
    (mover.folder / "partial" / layer[7:]).write_bytes(b"x" * 1000)

    with serving_oddly(layout) as registry:
        mover.pull(f"{registry.address}/app:1")

    assert mover.blobs.has(layer)


def test_what_is_refused_for_the_moment_is_asked_for_again(tmp_path: Path, mover: Mover) -> None:
    layout = make_layout(tmp_path / "oci", [BASE])
    refused = []

    def twist(asked: Asked) -> bool:
        refused.append(asked.path)
        if refused.count(asked.path) > 2:
            return False
        asked.answer(429 if len(refused) % 2 else 503, b"", {"Retry-After": "0"})
        return True

    with serving_oddly(layout, twist) as registry:
        mover.pull(f"{registry.address}/app:1")

    assert len(refused) == 9
    assert any("answered 429" in line for line in mover.watcher.lines)


def test_two_pulls_at_once_share_what_they_bring(tmp_path: Path, mover: Mover) -> None:
    layout = _big(tmp_path / "oci")
    errors: list[BaseException] = []
    with serving_oddly(layout) as registry:

        def work() -> None:
            try:
                Mover(mover.folder).pull(f"{registry.address}/app:1")
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        layers = [path for _, path, _ in registry.asked if "/blobs/" in path]

    assert errors == []
    assert len(layers) == len(set(layers)) == 2


def test_who_waits_for_another_pull_of_the_same_layer_can_be_cancelled(tmp_path: Path, mover: Mover) -> None:
    layout = _big(tmp_path / "oci")
    manifest = json.loads((layout.folder / "index.json").read_text())["manifests"][0]["digest"]
    layer = parse_manifest((layout.folder / "blobs/sha256" / manifest[7:]).read_bytes()).layers[0]
    with serving_oddly(layout) as registry, mover.blobs.ingest(layer.digest, layer.size):
        mover.watcher.enough = lambda progress: progress is not None and progress.text.startswith("waiting")
        with pytest.raises(Cancelled):
            mover.pull(f"{registry.address}/app:1")
    assert layer.digest in mover.watcher.texts("waiting for another pull")


def test_an_image_for_another_platform_alone_is_told_and_refused_where_it_matters(tmp_path: Path, mover: Mover) -> None:
    layout = make_layout(tmp_path / "oci", [BASE], architecture="s390x")
    with serving_oddly(layout) as registry:
        mover.pull(f"{registry.address}/app:1")
        assert any("is for linux/s390x" in line for line in mover.watcher.lines)
        with pytest.raises(NotFound, match="is for linux/s390x, not for linux/arm64"):
            mover.pull(f"{registry.address}/app:1", platform="linux/arm64")


# Settings


def test_proxies_are_those_of_the_environment(tmp_path: Path, mover: Mover, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = make_layout(tmp_path / "oci", [BASE])
    with serving_oddly(layout) as proxy:
        monkeypatch.setenv("http_proxy", f"http://ann:s3%40cret@{proxy.address}")
        mover.pull("registry.invalid:5000/app:1")
        assert all(path.startswith("http://registry.invalid:5000/v2/app/") for _, path, _ in proxy.asked)
        assert {headers["proxy-authorization"] for _, _, headers in proxy.asked} == {"Basic YW5uOnMzQGNyZXQ="}

        monkeypatch.setenv("no_proxy", "127.0.0.1")
        proxy.asked.clear()
        mover.pull(f"{proxy.address}/app:1")
        assert [path for _, path, _ in proxy.asked] == ["/v2/app/manifests/1"]


def test_a_proxy_that_is_not_there_is_told_without_its_password(mover: Mover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://ann:s3cret@127.0.0.1:1")

    with pytest.raises(BackendUnavailable, match=r"through the proxy: Connection refused") as caught:
        mover.pull("registry.invalid:5000/app:1")
    assert "s3cret" not in caught.value.message


def test_mirrors_are_asked_first_and_the_registry_when_they_have_nothing(
    tmp_path: Path, mover: Mover, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = make_layout(tmp_path / "oci", [BASE])

    def nothing(asked: Asked) -> bool:
        asked.answer(404)
        return True

    with serving_oddly(layout, nothing) as empty, serving_oddly(layout) as full, serving_oddly(layout) as origin:
        Path(os.environ["CONTAINERS_REGISTRIES_CONF"]).write_text(
            f"""
            [[registry]]
            prefix = "example.org/team"
            location = "{origin.address}/team"
            insecure = true
            [[registry.mirror]]
            location = "{empty.address}/cache"
            insecure = true
            [[registry.mirror]]
            location = "{full.address}/cache"
            insecure = true
            """
        )
        mover.pull("example.org/team/app:1", plain_http=False)
        assert empty.count("/v2/cache/app/manifests/1") == 1
        assert full.count("/v2/cache/app/blobs/") == 2
        assert origin.count("/manifests/") == 0
    assert any("trying the next one" in line for line in mover.watcher.lines)


def test_a_registry_that_the_settings_block_is_not_asked(mover: Mover) -> None:
    Path(os.environ["CONTAINERS_REGISTRIES_CONF"]).write_text(
        '[[registry]]\nlocation = "bad.example"\nblocked = true\n'
    )

    with pytest.raises(PermissionDenied, match=r"the settings block bad\.example"):
        mover.pull("bad.example/app:1")


def test_skopeo_reads_what_was_pulled_and_pushed_again(tmp_path: Path, registry: Registry, mover: Mover) -> None:
    make_layout(tmp_path / "oci", [BASE, {"app": b"1"}], Cmd=["/bin/sh"]).push("image", f"{registry.address}/a:1")

    digest = mover.push(f"{registry.address}/b:2", mover.pull(f"{registry.address}/a:1"))

    skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{registry.address}/b:2", f"dir:{tmp_path / 'out'}")
    assert json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry.address}/b:2"))["Digest"] == digest
