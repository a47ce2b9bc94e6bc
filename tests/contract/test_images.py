"""Images: kept with what they share, given names, moved, built, and made of guests."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from backends.assets import Building, Committing, ImageKeeping, Images, Transferring
from backends.errors import Cancelled, InnkeeperError, NotFound
from backends.image import BuildSpec, CommitOptions, Image, PruneOptions, TransferOptions
from backends.trace import Progress, Recorder, Watcher
from tests.contract.conftest import Subject, recorder


class Follower(Watcher):
    """Keeps what it is told, and may have enough."""

    def __init__(self, *, enough: bool = False) -> None:
        self.progress: list[Progress] = []
        self.lines: list[str] = []
        self._enough = enough

    def progressed(self, progress: Progress) -> None:
        self.progress.append(progress)

    def said(self, line: str) -> None:
        self.lines.append(line)

    @property
    def has_enough(self) -> bool:
        return self._enough and bool(self.progress or self.lines)


@pytest.fixture
def image(subject: Subject, tmp_path: Path) -> Iterator[str]:
    """An image of the test's own, in a backend that keeps images."""
    subject.having(ImageKeeping)
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "program").write_bytes(b"x" * 5000)
    name = f"contract-{uuid.uuid4().hex[:8]}:1"
    subject.having(Images).image_import(name, str(root), recorder())
    before = {each.id for each in subject.having(Images).images()} - {_one(subject, name).id}
    yield name
    images = subject.having(Images)
    subject.clear()
    for each in {each.id for each in images.images()} - before:
        images.image_remove(each, recorder(), force=True)


def _one(subject: Subject, name: str) -> Image:
    images: Sequence[Image] = subject.having(Images).images()
    return next(each for each in images if each.name == name)


def _names(subject: Subject) -> set[str]:
    return {each.name for each in subject.having(Images).images()}


def test_an_image_tells_its_size_and_its_history(subject: Subject, image: str) -> None:
    keeping, listed = subject.having(ImageKeeping), _one(subject, image)

    history = keeping.image_history(image)

    assert listed.id.startswith("sha256:")
    assert listed.size_bytes is not None
    assert listed.size_bytes >= 5000
    assert listed.layers == sum(bool(step.digest) for step in history) == 1
    assert sum(step.size_bytes for step in history) == listed.size_bytes
    assert listed.own_bytes is not None
    assert listed.own_bytes >= listed.size_bytes  # nobody shares it, and there may be a compressed form of it too


def test_inspect_has_its_names_and_its_configuration(subject: Subject, image: str) -> None:
    told = subject.having(ImageKeeping).image_inspect(image)

    assert list(told["names"]) == [image]
    assert isinstance(told["config"], dict)


@pytest.mark.parametrize("verb", ["image_inspect", "image_history"])
def test_an_image_that_does_not_exist_is_not_found(subject: Subject, verb: str) -> None:
    with pytest.raises(NotFound):
        getattr(subject.having(ImageKeeping), verb)("no-such-image")


def test_a_second_name_is_another_way_to_the_same_image(subject: Subject, image: str) -> None:
    keeping, images = subject.having(ImageKeeping), subject.having(Images)

    keeping.image_tag(image, "contract-other:2", recorder())

    assert _one(subject, "contract-other:2").id == _one(subject, image).id
    images.image_remove("contract-other:2", recorder())
    assert "contract-other:2" not in _names(subject)
    assert image in _names(subject)


def test_a_name_that_another_image_has_is_taken_from_it(subject: Subject, image: str, tmp_path: Path) -> None:
    keeping, images = subject.having(ImageKeeping), subject.having(Images)
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("other")
    images.image_import("contract-taken:1", str(other), recorder())

    keeping.image_tag(image, "contract-taken:1", recorder())

    assert _one(subject, "contract-taken:1").id == _one(subject, image).id
    assert [each for each in images.images() if each.is_dangling]


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_what_is_saved_is_loaded_as_the_same_image(subject: Subject, image: str, form: str) -> None:
    keeping, images = subject.having(ImageKeeping), subject.having(Images)
    before, archive = _one(subject, image), io.BytesIO()
    keeping.image_save([image], archive, recorder(), format=form)
    images.image_remove(image, recorder())
    assert image not in _names(subject)

    loaded = keeping.image_load(io.BytesIO(archive.getvalue()), recorder())

    assert [each.name for each in loaded] == [image]
    assert _one(subject, image).id == before.id


def test_an_archive_that_is_none_is_refused(subject: Subject, image: str) -> None:
    before = _names(subject)

    with pytest.raises(InnkeeperError):
        subject.having(ImageKeeping).image_load(io.BytesIO(b"no archive"), recorder())

    assert _names(subject) == before


def test_prune_says_what_would_go_and_then_does_just_that(subject: Subject, image: str) -> None:
    keeping, before = subject.having(ImageKeeping), _names(subject)

    asked = keeping.image_prune(PruneOptions(all=True), recorder(), dry_run=True)

    assert image in asked.images
    assert asked.freed_bytes >= 5000
    assert _names(subject) == before
    done = keeping.image_prune(PruneOptions(all=True), recorder())
    assert set(done.images) == set(asked.images)
    assert image not in _names(subject)


def test_prune_leaves_images_with_a_name_alone_unless_told_otherwise(subject: Subject, image: str) -> None:
    subject.having(ImageKeeping).image_prune(PruneOptions(), recorder())

    assert image in _names(subject)


def test_a_pull_tells_of_each_layer_and_the_second_one_moves_nothing(subject: Subject) -> None:
    transferring, follower, again = subject.having(Transferring), Follower(), Follower()
    name = subject.pullable()

    pulled = transferring.image_pull(name, TransferOptions(), Recorder("test", watcher=follower))
    transferring.image_pull(name, TransferOptions(), Recorder("test", watcher=again))

    assert pulled.name in _names(subject)
    last = {each.part: each for each in follower.progress}
    assert len(last) >= pulled.layers
    assert all(each.is_done for each in last.values())
    assert "downloading" not in {each.text for each in again.progress}
    subject.having(Images).image_remove(pulled.name, recorder())


def test_a_pull_that_is_given_up_leaves_no_image(subject: Subject) -> None:
    transferring, name, before = subject.having(Transferring), subject.pullable(), _names(subject)

    with pytest.raises(Cancelled):
        transferring.image_pull(name, TransferOptions(), Recorder("test", watcher=Follower(enough=True)))

    assert _names(subject) == before


def test_a_build_tells_its_steps_and_a_second_one_uses_them_again(subject: Subject, image: str, tmp_path: Path) -> None:
    building, follower, again = subject.having(Building), Follower(), Follower()
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nENV A=b\nCOPY file /file\n")
    (tmp_path / "file").write_text("content")
    spec = BuildSpec(str(tmp_path), names=("contract-built:1",))

    built = building.build(spec, Recorder("test", watcher=follower))
    second = building.build(spec, Recorder("test", watcher=again))

    assert built.name == "contract-built:1"
    assert built.id == second.id
    assert built.layers == 2
    assert follower.progress
    assert any("cached" in line.lower() for line in again.lines)
    assert "A=b" in subject.having(ImageKeeping).image_inspect("contract-built:1")["config"]["Env"]


def test_a_build_without_a_dockerfile_is_refused(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(InnkeeperError):
        subject.having(Building).build(BuildSpec(str(tmp_path)), recorder())


def test_a_guest_becomes_an_image_on_top_of_its_own(subject: Subject) -> None:
    committing, guest = subject.having(Committing), subject.guest()
    why = subject.backend.why_not("commit", guest)
    if why:
        pytest.skip(why)

    made = committing.commit(guest.ref, "contract-committed:1", CommitOptions(changes=("ENV C=d",)), recorder())

    assert made.name == "contract-committed:1"
    assert "C=d" in subject.having(ImageKeeping).image_inspect(made.name)["config"]["Env"]
    subject.having(Images).image_remove(made.name, recorder())


def test_a_guest_that_never_ran_has_changed_nothing(subject: Subject) -> None:
    guest = subject.guest()

    assert list(subject.having(Committing).changes(guest.ref)) == []
