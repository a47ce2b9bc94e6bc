"""Names, removal, garbage and crashes of the image store."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.container import ContainerSpec
from backends.errors import AmbiguousName, Busy, Cancelled, InnkeeperError, NotFound, WrongState
from backends.image import PruneOptions
from backends.model import Guest
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.contract.test_images import Follower
from tests.kernel.conftest import native, output_of, root, run
from tests.tools.containers import log_of
from tests.tools.needs import needs
from tests.tools.oci_images import Layout, busybox_files, make_layout

pytestmark = [needs("root", "cgroup.cpu", "busybox"), pytest.mark.timeout(120)]
__all__ = ["native", "output_of", "root", "run"]
R = Recorder("test")
ROUNDS = int(os.environ.get("INNKEEPER_ROUNDS", "6"))
REPOSITORY = Path(__file__).resolve().parents[2]
Run = Callable[..., Guest]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Two images that share a layer, called "small:1" and "other:2"."""
    base = busybox_files() | {"bin/cat": b"->busybox", "bin/sleep": b"->busybox"}
    made = make_layout(tmp_path / "oci", [base, {"etc/motd": b"hello\n"}], "small:1", Cmd=["/bin/cat", "/etc/motd"])
    made.name(made.manifest([base, {"etc/other": b"x"}]), "other:2")
    return made


def names(native: NativeBackend) -> list[str]:
    """Return the names of all images but the built-in one."""
    return [image.name for image in native.images() if image.name != "host"]


def blobs_and_layers(root: Path) -> tuple[int, int]:
    """Return how many blobs and layers there are, and that nothing is half made."""
    assert not list((root / "images").glob(".*"))
    assert not list((root / "images/partial").glob("*"))
    assert not list((root / "layers").glob(".*"))
    return len(list((root / "images/blobs/sha256").glob("*"))), len(list((root / "layers").glob("*")))


def test_an_image_is_found_by_name_digest_id_and_the_beginning_of_its_id(native: NativeBackend, layout: Layout) -> None:
    native.image_load(str(layout.folder), R)
    image = next(each for each in native.images() if each.name == "small:1")

    for name in ("small:1", "docker.io/library/small:1", f"small@{image.digest}", image.digest, image.id,
                 image.id.removeprefix("sha256:"), image.id[7:19]):  # fmt: skip
        assert native.image_inspect(name)["id"] == image.id, name
    for name in ("small", "small:2", f"other@{image.digest}", "sha256:" + "0" * 64, "registry.example/small:1"):
        with pytest.raises(NotFound):
            native.image_inspect(name)


def test_an_image_kept_by_its_digest_is_found_removed_and_saved_without_a_name(
    native: NativeBackend, layout: Layout
) -> None:
    native.image_load(str(layout.folder), R)
    digest = native.image_inspect("small:1")["digest"]
    native._images.put(digest, [f"registry.example/x@{digest}"], R)
    native.image_remove("small:1", R)

    assert f"registry.example/x@{digest}" in names(native)
    assert native.image_inspect(f"registry.example/x@{digest}")["digest"] == digest
    buffer = io.BytesIO()
    native.image_save([f"registry.example/x@{digest}"], buffer, R)
    assert b'"RepoTags":null' in buffer.getvalue()
    native.image_remove(f"registry.example/x@{digest}", R)
    assert names(native) == ["other:2"]


def test_the_beginning_of_several_ids_is_ambiguous(native: NativeBackend, tmp_path: Path) -> None:
    made = Layout(tmp_path / "many")
    for number in range(40):
        made.name(made.manifest([{"a": b"a"}], Cmd=[str(number)]), f"many:{number}")
    native.image_load(str(made.folder), R)
    ids = sorted(image.id[7:] for image in native.images() if image.name != "host")
    shared = next(a[:2] for a, b in itertools.pairwise(ids) if a[:2] == b[:2] and a[:2] not in names(native))

    with pytest.raises(AmbiguousName):
        native.image_inspect(shared)


def test_containers_are_made_by_any_of_these_names(native: NativeBackend, run: Run, layout: Layout) -> None:
    native.image_load(str(layout.folder), R)
    image = next(each for each in native.images() if each.name == "small:1")

    for name in ("small:1", f"small@{image.digest}", image.id[7:19]):
        guest = run("/bin/cat", "/etc/motd", image=name, network="none")
        native.wait(guest.ref, timeout_s=30)
        assert log_of(native, guest) == "hello\n"
    assert len(next(each for each in native.images() if each.name == "small:1").users) == 3


def test_removing_untags_and_removes_with_the_last_name(native: NativeBackend, root: Path, layout: Layout) -> None:
    native.image_load(str(layout.folder), R)
    native.image_tag("small:1", "again:1", R)
    whole = blobs_and_layers(root)

    native.image_remove("small:1", R)
    assert names(native) == ["again:1", "other:2"]
    assert blobs_and_layers(root) == whole
    native.image_remove("again:1", R)
    assert blobs_and_layers(root) == (whole[0] - 3, whole[1] - 1)  # the layer that it shares stays
    native.image_remove("other:2", R)
    assert blobs_and_layers(root) == (0, 0)


def test_by_its_id_an_image_of_several_repositories_goes_by_force_only(native: NativeBackend, layout: Layout) -> None:
    native.image_load(str(layout.folder), R)
    native.image_tag("small:1", "again:1", R)
    image_id = native.image_inspect("small:1")["id"]

    with pytest.raises(WrongState, match="again:1"):
        native.image_remove(image_id, R)
    native.image_remove(image_id, R, force=True)
    assert names(native) == ["other:2"]


def test_what_a_container_was_made_from_is_never_removed(
    native: NativeBackend, run: Run, root: Path, layout: Layout
) -> None:
    native.image_load(str(layout.folder), R)
    guest = run("/bin/sleep", "1000", image="small:1", network="none")
    with pytest.raises(Busy):
        native.image_remove("small:1", R)
    assert native.image_prune(PruneOptions(all=True), R).images == ("other:2",)

    native.image_remove("small:1", R, force=True)  # its name only
    assert [image.is_dangling for image in native.images() if image.name != "host"] == [True]
    assert native.image_prune(PruneOptions(all=True), R).images == ()
    assert blobs_and_layers(root) == (4, 2)
    native.remove(guest.ref, R, force=True)
    pruned = native.image_prune(PruneOptions(), R)
    assert (len(pruned.images), pruned.blobs, pruned.layers) == (1, 4, 2)
    assert blobs_and_layers(root) == (0, 0)


def test_prune_frees_what_it_said_and_what_the_disk_shows(native: NativeBackend, root: Path, layout: Layout) -> None:
    native.image_load(str(layout.folder), R)

    def used() -> int:
        found = subprocess.run(["du", "-s", "-B1", root / "images", root / "layers"], capture_output=True, text=True)
        return sum(int(line.split()[0]) for line in found.stdout.splitlines())

    before = used()
    said = native.image_prune(PruneOptions(all=True), R, dry_run=True)
    assert used() == before
    done = native.image_prune(PruneOptions(all=True), R)

    assert done == said
    assert abs((before - used()) - done.freed_bytes) < 64 << 10  # folders and index.json


def test_a_name_that_moves_leaves_the_former_image_without_one(native: NativeBackend, layout: Layout) -> None:
    native.image_load(str(layout.folder), R)
    native.image_tag("other:2", "small:1", R)

    found = {image.name: image for image in native.images() if image.name != "host"}
    assert len(found) == 3
    assert [image.is_dangling for image in found.values()].count(True) == 1
    assert native.image_prune(PruneOptions(), R).images != ()
    assert names(native) == ["other:2", "small:1"]


def test_history_tells_steps_and_sizes(native: NativeBackend, layout: Layout) -> None:
    native.image_load(str(layout.folder), R)
    steps = native.image_history("small:1")

    assert [step.created_by for step in steps] == ["layer 0", "layer 1"]
    assert all(step.size_bytes and step.blob_bytes and step.digest and step.diff_id for step in steps)


def test_a_damaged_image_is_listed_as_such_and_the_others_work(
    native: NativeBackend, root: Path, layout: Layout
) -> None:
    native.image_load(str(layout.folder), R)
    digest = native.image_inspect("small:1")["digest"]
    (root / "images/blobs/sha256" / digest[7:]).write_text("{}")

    listed = {image.name: image.note for image in native.images()}
    assert "damaged" in listed["small:1"]
    assert native.image_inspect("other:2")
    with pytest.raises(InnkeeperError):
        native.image_inspect("small:1")
    assert any("small:1" in line for line in native.clean(R))
    assert names(native) == ["other:2"]
    native.image_load(str(layout.folder), R)
    assert names(native) == ["other:2", "small:1"]


def test_a_lost_layer_is_unpacked_again(native: NativeBackend, run: Run, root: Path, layout: Layout) -> None:
    native.image_load(str(layout.folder), R)
    chain_id = native.image_inspect("small:1")["layers"][0]["chain_id"]
    native._images.layers.remove(chain_id)

    guest = run("/bin/cat", "/etc/motd", image="small:1", network="none")
    native.wait(guest.ref, timeout_s=30)
    assert log_of(native, guest) == "hello\n"


_KILLED = """
import sys
from pathlib import Path
from backends.image import PruneOptions
from backends.native.images.collecting import Collector
from backends.native.images.loading import load
from backends.native.images.store import ImageStore
from backends.trace import Recorder
store = ImageStore(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    load(store, sys.argv[2], Recorder("test"))
    store.tag("small:1", "moved:1")
    store.tag("other:2", "moved:1")
    Collector(store, {}).remove("small:1", force=True)
    Collector(store, {}).prune(PruneOptions(all=True), dry_run=False)
"""


def test_a_store_whose_users_are_killed_at_any_moment_works_and_is_mended(
    native: NativeBackend, root: Path, layout: Layout
) -> None:
    for number in range(ROUNDS):
        with subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(root), str(layout.folder)], stdout=subprocess.PIPE, cwd=REPOSITORY
        ) as victim:
            assert victim.stdout is not None
            victim.stdout.readline()
            time.sleep(random.Random(number).uniform(0.0, 0.8))  # any moment
            victim.send_signal(signal.SIGKILL)
        for image in native.images():  # it works as it is
            native.image_inspect(image.name)
        native.clean(R)
        assert not list((root / "images").glob(".*"))
        native.image_load(str(layout.folder), R)
        for name in ("small:1", "other:2"):
            assert all(Path(folder).exists() for folder in native._images.get(name).layers)
    native.image_prune(PruneOptions(all=True), R)
    assert blobs_and_layers(root) == (0, 0)


def test_images_of_an_earlier_version_stay_while_containers_need_them(
    native: NativeBackend, root: Path, layout: Layout
) -> None:
    old = root / "images/former"
    (old / "layer/etc").mkdir(parents=True)
    (old / "image.json").write_text(json.dumps({"name": "former", "layers": [str(old / "layer")]}))
    guest = native.create(ContainerSpec("host", ("true",), network="none"), R)
    path = native._store.folder(guest.ref.id) / "container.json"
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept) | {"layers": [str(old / "layer")], "image_id": ""}))

    native.clean(R)
    assert old.exists()
    path.write_text(kept)
    assert any("former" in line for line in native.clean(R))
    assert not old.exists()


def test_a_load_that_is_given_up_leaves_nothing(native: NativeBackend, root: Path, layout: Layout) -> None:
    buffer = io.BytesIO()
    native.image_load(str(layout.folder), R)
    native.image_save(["small:1"], buffer, R)
    native.image_prune(PruneOptions(all=True), R)

    with pytest.raises(Cancelled):
        native.image_load(io.BytesIO(buffer.getvalue()), Recorder("test", watcher=Follower(enough=True)))
    assert blobs_and_layers(root) == (0, 0)


def test_clean_says_that_images_are_just_being_added_and_does_the_rest(native: NativeBackend, layout: Layout) -> None:
    native.image_load(str(layout.folder), R)
    with native._images.blobs.using():
        assert [line for line in native.clean(R) if "images were not looked through" in line]
        with pytest.raises(Busy):
            native._images.blobs.collecting(0.01).__enter__()
