"""The verbs on images, as docker's users type them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import Inn
from tests.tools.needs import needs

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(120)]


@pytest.fixture
def inn(tmp_path: Path) -> Inn:
    """`inn` with images of its own that last from one command to the next."""
    made = Inn(tmp_path / "root")
    made.options[-1] = "native"
    return made


@pytest.fixture
def image(inn: Inn, tmp_path: Path) -> str:
    """An image of the test's own."""
    folder = tmp_path / "rootfs"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/program").write_bytes(b"x" * 3000)
    assert inn("import", str(folder), "mine:1").out == "mine:1\n"
    return "mine:1"


def test_images_is_image_ls(inn: Inn, image: str) -> None:
    assert inn("images", "-q").out == inn("image", "ls", "-q").out
    assert image in inn("images").out


def test_images_are_filtered_by_name_and_by_what_they_are(inn: Inn, image: str) -> None:
    names = [each["name"] for each in inn("images", "--json", "mine").json]
    assert names == [image]
    assert image not in [each["name"] for each in inn("images", "--json", "-f", "dangling=true").json]
    assert inn("images", "-f", "nonsense").code == 2


def test_images_quietly_are_ids(inn: Inn, image: str) -> None:
    image_id = inn("images", "--json", "mine").json[0]["id"]

    assert inn("images", "-q", "mine").out == image_id.removeprefix("sha256:")[:12] + "\n"
    assert inn("images", "-q", "--no-trunc", "mine").out == image_id + "\n"


def test_history_tells_the_steps_and_their_layers(inn: Inn, image: str) -> None:
    steps = inn("history", "--json", image).json

    assert {"created_by", "created", "digest", "diff_id", "size_bytes", "blob_bytes", "comment", "images"} == set(
        steps[0]
    )
    assert inn("history", "-q", image).out.split() == [step["digest"] for step in steps if step["digest"]]
    assert inn("history", image).out.splitlines()[0].split()[:3] == ["LAYER", "AGE", "SIZE"]


def test_inspect_is_an_object_for_one_image_and_an_array_for_several(inn: Inn, image: str) -> None:
    assert inn("image", "inspect", image).json["names"] == [image]
    assert len(inn("image", "inspect", image, image).json) == 2
    assert inn("image", "inspect", "nosuch").code == 1


def test_a_further_name_is_given_and_taken(inn: Inn, image: str) -> None:
    assert inn("tag", image, "other:2").code == 0
    assert inn("rmi", "other:2").out == "other:2\n"
    assert inn("rmi", "other:2", image).out == f"{image}\n"


def test_search_finds_what_is_stored(inn: Inn, image: str) -> None:
    hits = inn("image", "search", "--json", "MINE").json
    assert {"name": image, "where": "name", "text": image} in hits
    assert inn("image", "search", "-q", "mine").out == f"{image}\n"
    assert inn("image", "search", "nothing-like-it").code == 1


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_what_is_saved_is_loaded(inn: Inn, image: str, tmp_path: Path, form: str) -> None:
    path = tmp_path / "saved"
    assert inn("save", "-q", "--format", form, "-o", str(path), image).code == 0
    inn("rmi", image)
    assert inn("load", "-q", "-i", str(path)).out == f"{image}\n"
    inn("rmi", image)
    assert inn("load", "-q", stdin=path.read_bytes()).out == f"{image}\n"
    assert [each.name for each in tmp_path.iterdir() if "part" in each.name] == []


def test_a_save_that_fails_leaves_no_file(inn: Inn, tmp_path: Path) -> None:
    assert inn("save", "-q", "-o", str(tmp_path / "saved"), "nosuch").code == 1
    assert not (tmp_path / "saved").exists()
    assert not list(tmp_path.glob(".saved*"))


def test_what_is_no_archive_is_one_line_on_stderr(inn: Inn) -> None:
    done = inn("load", "-q", stdin=b"nothing of the kind")
    assert (done.code, done.out) == (1, "")
    assert len(done.err.splitlines()) <= 2  # with a hint


def test_prune_says_what_would_go_and_what_went(inn: Inn, image: str) -> None:
    asked = inn("image", "prune", "-a", "--dry-run", "--json").json
    assert image in asked["images"]
    done = inn("image", "prune", "-a", "-f")
    assert image in done.out.split()
    assert "freed" in done.err
    assert image not in inn("images").out


def test_import_reads_a_tar_from_stdin(inn: Inn) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("etc"), None)
    assert inn("import", "-", "piped", stdin=buffer.getvalue()).out == "piped:latest\n"
    assert json.loads(inn("images", "--json", "piped").out)[0]["name"] == "piped:latest"
