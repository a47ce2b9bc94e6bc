"""Archives of images: ours are loaded by podman, skopeo and umoci, and theirs by us, with the same digests."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.errors import NotFound, Unsupported, UsageError
from backends.image import PruneOptions
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.kernel.conftest import native, output_of, root, run
from tests.tools.engines import Docker, Podman
from tests.tools.needs import needs
from tests.tools.oci_images import Layout, busybox_files, make_layout
from tests.tools.registry import skopeo

pytestmark = [needs("root", "cgroup.cpu", "busybox"), pytest.mark.timeout(120)]
__all__ = ["native", "output_of", "root", "run"]
R = Recorder("test")
FILES = [busybox_files(), {"etc/motd": b"hello\n"}]


@pytest.fixture
def podman() -> Iterator[Podman]:
    engine = Podman()
    yield engine
    engine.remove()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Two images that share a layer, called "small:1" and "other:2"."""
    made = make_layout(tmp_path / "oci", FILES, "small:1", Cmd=["/bin/busybox", "cat", "/etc/motd"], Labels={"a": "b"})
    made.name(made.manifest([FILES[0], {"etc/other": b"x"}], compression="zstd"), "other:2")
    return made


def saved(native: NativeBackend, path: Path, *names: str, form: str) -> Path:
    """Save images to a file."""
    with path.open("wb") as file:
        native.image_save(names, file, R, format=form)
    return path


def ids(native: NativeBackend) -> dict[str, str]:
    """Return the ids of all images but the built-in one, by name."""
    return {image.name: image.id for image in native.images() if image.name != "host"}


def test_a_folder_with_a_layout_is_loaded_with_all_its_images_and_names(native: NativeBackend, layout: Layout) -> None:
    loaded = native.image_load(str(layout.folder), R)

    assert sorted(image.name for image in loaded) == ["other:2", "small:1"]
    manifests = {each["annotations"]["org.opencontainers.image.ref.name"]: each["digest"] for each in json.loads(
        (layout.folder / "index.json").read_text())["manifests"]}  # fmt: skip
    assert {image.name: image.digest for image in loaded} == manifests


def test_images_that_share_a_layer_have_it_once_on_disk(native: NativeBackend, root: Path, layout: Layout) -> None:
    native.image_load(str(layout.folder), R)
    small, other = (next(i for i in native.images() if i.name == name) for name in ("small:1", "other:2"))

    assert len(list((root / "layers").glob("[!.]*"))) == 3
    assert small.size_bytes is not None
    assert small.own_bytes is not None
    assert small.own_bytes < small.size_bytes  # the layer with busybox is the other one's too
    assert [step.images for step in native.image_history("small:1")] == [2, 1]
    assert other.layers == 2


def test_a_loaded_image_runs_as_its_config_says(native: NativeBackend, layout: Layout) -> None:
    native.image_load(str(layout.folder), R)
    config = native._images.get("small:1")

    assert config.command == ["/bin/busybox", "cat", "/etc/motd"]
    assert config.labels == {"a": "b"}
    assert [Path(folder, "etc/motd").exists() for folder in config.layers] == [True, False]


@needs("skopeo")
@pytest.mark.parametrize("form", ["docker", "oci"])
def test_what_we_save_skopeo_reads_with_the_same_digests(
    native: NativeBackend, layout: Layout, tmp_path: Path, form: str
) -> None:
    native.image_load(str(layout.folder), R)
    archive = saved(native, tmp_path / "saved.tar", "small:1", "other:2", form=form)
    for name, image_id in ids(native).items():
        source = f"{form}-archive:{archive}:{name}"
        skopeo("copy", "-q", source, f"dir:{tmp_path}/{name}")  # which reads and verifies it all
        assert json.loads(skopeo("inspect", "--raw", source))["config"]["digest"] == image_id
        if form == "oci":
            digest = skopeo("inspect", "--format", "{{.Digest}}", source).strip()
            assert digest == native.image_inspect(name)["digest"]


@needs("skopeo")
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_what_skopeo_writes_we_load_with_the_same_id(
    native: NativeBackend, layout: Layout, tmp_path: Path, form: str
) -> None:
    target = f"{form}:{tmp_path}/skopeo.tar:small:1"
    skopeo("copy", "-q", f"oci:{layout.folder}:small:1", target)
    expected = json.loads(skopeo("inspect", "--raw", f"oci:{layout.folder}:small:1"))["config"]["digest"]

    loaded = native.image_load(str(tmp_path / "skopeo.tar"), R)

    assert [(image.name, image.id) for image in loaded] == [("small:1", expected)]


@needs("podman")
@pytest.mark.parametrize("form", ["docker", "oci"])
def test_what_we_save_podman_loads_and_runs(
    native: NativeBackend, layout: Layout, tmp_path: Path, podman: Podman, form: str
) -> None:
    native.image_load(str(layout.folder), R)
    archive = saved(native, tmp_path / "saved.tar", "small:1", form=form)

    done = podman("load", "-i", str(archive))

    assert done.code == 0, done
    name = done.out.strip().splitlines()[-1].partition(": ")[2]
    inspected = json.loads(podman("image", "inspect", name).out)[0]
    assert "sha256:" + inspected["Id"] == ids(native)["small:1"]
    ran = podman("run", "--rm", "--network", "none", name)
    assert ran.out == "hello\n", ran


@needs("podman")
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_what_podman_saves_we_load_and_run(
    native: NativeBackend, layout: Layout, tmp_path: Path, podman: Podman, form: str
) -> None:
    skopeo("copy", "-q", f"oci:{layout.folder}:small:1", f"docker-archive:{tmp_path}/in.tar:small:1")
    name = podman("load", "-i", f"{tmp_path}/in.tar").out.strip().splitlines()[-1].partition(": ")[2]
    assert podman("save", "--format", form, "-o", f"{tmp_path}/out.tar", name).code == 0
    expected = json.loads(skopeo("inspect", "--raw", f"{form}:{tmp_path}/out.tar"))["config"]["digest"]

    loaded = native.image_load(f"{tmp_path}/out.tar", R)

    assert [(image.name, image.id) for image in loaded] == [("small:1", expected)]


@needs("umoci")
def test_umoci_unpacks_what_we_save_to_the_same_files(native: NativeBackend, layout: Layout, tmp_path: Path) -> None:
    native.image_load(str(layout.folder), R)
    archive = saved(native, tmp_path / "saved.tar", "small:1", form="oci")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "theirs", filter="data")
    index = json.loads((tmp_path / "theirs/index.json").read_text())
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = "one"  # umoci knows no names with ":"
    (tmp_path / "theirs/index.json").write_text(json.dumps(index))
    subprocess.run(
        ["umoci", "unpack", "--image", f"{tmp_path}/theirs:one", f"{tmp_path}/bundle"], check=True, capture_output=True
    )

    for folder in native._images.get("small:1").layers:
        for parent, _, files in os.walk(folder):
            for name in files:
                path = Path(parent, name)
                theirs = tmp_path / "bundle/rootfs" / path.relative_to(folder)
                assert (
                    os.readlink(theirs) == os.readlink(path)
                    if path.is_symlink()
                    else (theirs.read_bytes() == path.read_bytes())
                )


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_compressed_archives_are_loaded_from_a_stream(
    native: NativeBackend, layout: Layout, tmp_path: Path, compression: str
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:  # type: ignore[call-overload]
        tar.add(layout.folder, ".")

    assert len(native.image_load(io.BytesIO(buffer.getvalue()), R)) == 2


def test_an_archive_of_docker_as_it_was_with_links_between_layers_is_loaded(
    native: NativeBackend, layout: Layout
) -> None:
    raw = json.loads((layout.folder / "index.json").read_text())["manifests"][0]
    manifest = json.loads((layout.folder / "blobs/sha256" / raw["digest"][7:]).read_text())
    buffer = io.BytesIO()

    def blob(digest: str) -> bytes:
        return (layout.folder / "blobs/sha256" / digest[7:]).read_bytes()

    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, layer in enumerate(manifest["layers"]):
            entry = tarfile.TarInfo(f"{number}/real.tar")
            entry.size = layer["size"]
            tar.addfile(entry, io.BytesIO(blob(layer["digest"])))
            link = tarfile.TarInfo(f"link{number}/layer.tar")
            link.type, link.linkname = tarfile.SYMTYPE, f"../{number}/real.tar"
            tar.addfile(link)
        described = [{"Config": "c.json", "RepoTags": ["a:1", "b:2"], "Layers": ["link0/layer.tar", "link1/layer.tar"]}]
        for name, data in (("c.json", blob(manifest["config"]["digest"])),
                           ("manifest.json", json.dumps(described).encode())):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))

    loaded = native.image_load(io.BytesIO(buffer.getvalue()), R)

    assert {image.name: image.id for image in loaded} == dict.fromkeys(("a:1", "b:2"), manifest["config"]["digest"])


def test_a_name_without_a_tag_saves_all_tags_and_an_id_no_name(
    native: NativeBackend, layout: Layout, tmp_path: Path
) -> None:
    native.image_load(str(layout.folder), R)
    native.image_tag("other:2", "small:2", R)
    small_id = ids(native)["small:1"]
    with tarfile.open(saved(native, tmp_path / "all.tar", "small", form="docker")) as tar:
        entries = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert sorted(entry["RepoTags"] for entry in entries) == [["small:1"], ["small:2"]]
    with tarfile.open(saved(native, tmp_path / "one.tar", small_id, form="docker")) as tar:
        entries = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert [entry["RepoTags"] for entry in entries] == [None]


def test_what_cannot_be_saved_is_said(native: NativeBackend, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        saved(native, tmp_path / "a", "nowhere", form="oci")
    with pytest.raises(Unsupported):
        saved(native, tmp_path / "b", "host", form="oci")
    with pytest.raises(UsageError):
        saved(native, tmp_path / "c", "host", form="zip")


@needs("docker")
@pytest.mark.timeout(200)
def test_docker_loads_and_runs_what_we_save_and_we_load_what_docker_saves(
    native: NativeBackend, layout: Layout, tmp_path: Path
) -> None:
    native.image_load(str(layout.folder), R)
    archive = saved(native, tmp_path / "saved.tar", "small:1", "other:2", form="docker")
    before = ids(native)
    docker = Docker()
    try:
        done = docker("load", "-i", str(archive))
        assert done.code == 0, done
        listed = docker("image", "ls", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").out.splitlines()
        assert before.items() <= dict(line.split() for line in listed).items()
        assert docker("run", "--rm", "--network", "none", "small:1").out == "hello\n"
        assert docker("save", "-o", f"{tmp_path}/theirs.tar", "small:1", "other:2").code == 0
    finally:
        docker.remove()
    native.image_prune(PruneOptions(all=True), R)

    loaded = native.image_load(f"{tmp_path}/theirs.tar", R)

    assert {image.name: image.id for image in loaded} == before


@needs("skopeo")
def test_the_store_itself_is_a_layout_that_skopeo_reads(native: NativeBackend, root: Path, layout: Layout) -> None:
    native.image_load(str(layout.folder), R)

    digest = skopeo("inspect", "--format", "{{.Digest}}", f"oci:{root}/images:small:1").strip()

    assert digest == native.image_inspect("small:1")["digest"]
