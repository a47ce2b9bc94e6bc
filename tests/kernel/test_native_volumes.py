"""Named volumes of real containers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.container import ContainerSpec
from backends.errors import AlreadyExists, Busy, Cancelled, InnkeeperError, NotFound, UsageError
from backends.model import Guest
from backends.native.backend import NativeBackend
from backends.native.locking import locked
from backends.trace import Recorder, Watcher
from backends.volume import VolumeSpec
from tests.tools.dying import dies_at
from tests.tools.needs import needs
from tests.tools.oci_images import make_layout
from tests.tools.waiting import wait_until

Run = Callable[..., Guest]
Output = Callable[..., str]
R = Recorder("test")
pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(120)]


def volumes(native: NativeBackend) -> dict[str, list[str]]:
    """Return the containers that have each volume."""
    return {each.name: [user.guest for user in each.users] for each in native.volumes()}


def test_what_one_writes_another_reads_and_it_outlives_both(native: NativeBackend, run: Run, output_of: Output) -> None:
    first = run("sleep", "1000", name="first", network="none", volumes=("box:/data",))
    output_of(first, "echo kept > /data/file")
    second = run("sleep", "1000", name="second", network="none", mounts=("type=volume,src=box,dst=/other,readonly",))

    assert output_of(second, "cat /other/file; touch /other/x 2>/dev/null || echo refused") == "kept\nrefused\n"
    assert volumes(native) == {"box": ["first", "second"]}
    for guest in (first, second):
        native.remove(guest.ref, R, force=True)
    assert volumes(native) == {"box": []}
    third = run("sleep", "1000", network="none", volumes=("box:/data:ro",))
    assert output_of(third, "cat /data/file") == "kept\n"


def test_a_volume_that_a_stopped_container_has_stays_and_the_error_names_who(native: NativeBackend) -> None:
    guest = native.create(ContainerSpec("host", ("true",), name="user", volumes=("box:/a", "box:/b")), R)

    with pytest.raises(Busy, match="user"):
        native.volume_remove("box", R)
    assert native.volume_prune(R) == []
    assert native.volumes()[0].users[0].places == ("/a", "/b")
    shown = native.inspect(guest.ref)
    assert shown["named_volumes"] == {"/a": "box", "/b": "box"}
    assert shown["volumes"]["/a"] == native.volumes()[0].folder
    native.remove(guest.ref, R)
    assert native.volume_prune(R, dry_run=True) == ["box"]
    assert native.volume_prune(R) == ["box"]
    with pytest.raises(NotFound):
        native.volume_remove("box", R)


def test_names_are_claimed_by_one_and_checked(native: NativeBackend) -> None:
    made = native.volume_create(VolumeSpec("box", {"a": "b"}), R)
    unnamed = native.volume_create(VolumeSpec(), R)

    with pytest.raises(AlreadyExists):
        native.volume_create(VolumeSpec("box"), R)
    for bad in ("../x", ".x", "a/b", "-x"):
        with pytest.raises(UsageError):
            native.volume_create(VolumeSpec(bad), R)
        with pytest.raises(UsageError):
            native.volume_remove(bad, R)
    assert made.labels == {"a": "b"}
    assert {each.name for each in native.volumes()} == {"box", unnamed.name}


class HadEnough(Watcher):
    """Gives up whatever it follows."""

    @property
    def has_enough(self) -> bool:
        return True


def test_its_size_is_what_its_files_take(native: NativeBackend, run: Run, output_of: Output) -> None:
    guest = run("sleep", "1000", network="none", volumes=("box:/data",))
    before = native.volume_size("box", R)
    output_of(guest, "head -c 3000000 /dev/urandom > /data/file")

    assert native.volume_size("box", R) - before >= 3_000_000
    with pytest.raises(NotFound):
        native.volume_size("moon", R)
    with pytest.raises(Cancelled):
        native.volume_size("box", Recorder("test", watcher=HadEnough()))


@pytest.fixture
def image(native: NativeBackend, tmp_path: Path) -> str:
    """An image with files at /data."""
    files = {"data/first": b"of the image\n", "data/inner/second": b"2\n"}
    make_layout(tmp_path / "oci", [files], "filled")
    native.image_load(str(tmp_path / "oci"), R)
    return "filled"


def create(native: NativeBackend, image: str, name: str, *texts: str, **more: object) -> Guest:
    """Make a container of an image that is not started."""
    return native.create(ContainerSpec(image, ("/x",), name=name, network="none", volumes=texts, **more), R)  # type: ignore[arg-type]


def files_of(native: NativeBackend, name: str) -> list[str]:
    """Return what is in a volume."""
    folder = next(Path(each.folder) for each in native.volumes() if each.name == name)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


FILLED = ["first", "inner", "inner/second"]


def test_an_empty_volume_begins_with_what_the_image_has_there(native: NativeBackend, image: str) -> None:
    native.volume_create(VolumeSpec("made"), R)
    create(native, image, "a", "new:/data", "made:/data/inner", "bare:/bare:nocopy", "none:/nothing")

    assert files_of(native, "new") == FILLED
    assert files_of(native, "made") == ["second"]
    assert files_of(native, "bare") == files_of(native, "none") == []


def test_a_volume_with_files_is_left_as_it_is_and_so_is_one_with_nocopy(native: NativeBackend, image: str) -> None:
    folder = Path(native.volume_create(VolumeSpec("mine"), R).folder)
    (folder / "own").write_text("x")
    create(native, image, "a", "mine:/data", "bare:/data/inner:nocopy")

    assert files_of(native, "mine") == ["own"]
    assert files_of(native, "bare") == []
    create(native, image, "b", "bare:/data")
    assert files_of(native, "bare") == [], "a container has it, which may have made it empty"


def test_a_container_that_could_not_be_made_leaves_no_volume(native: NativeBackend, run: Run) -> None:
    with pytest.raises(UsageError):
        create(native, "host", "a", "box:/data", "no/name:/x")
    with pytest.raises(InnkeeperError):
        create(native, "host", "b", "box:/proc/x")

    assert native.volumes() == []


def test_clones_and_templates_share_named_volumes(native: NativeBackend, run: Run, output_of: Output) -> None:
    guest = run("sleep", "1000", name="one", network="none", volumes=("box:/data",))
    output_of(guest, "echo kept > /data/file")
    native.snapshot_create(guest.ref, "before", R)
    output_of(guest, "echo later > /data/file")
    native.template_create(guest.ref, "kept", R)
    native.snapshot_restore(guest.ref, "before", R)
    copy = native.clone(guest.ref, "two", R)
    used = native.template_use("kept", "three", R)

    assert volumes(native) == {"box": ["one", "three", "two"]}
    for each in (copy, used):
        native.start(each.ref, R)
        assert output_of(each, "cat /data/file") == "later\n"


@needs("idmap")
def test_a_container_with_users_of_its_own_shares_it_with_one_without(
    native: NativeBackend, run: Run, output_of: Output
) -> None:
    apart = run("sleep", "1000", network="none", userns="auto", volumes=("box:/data",))
    output_of(apart, "echo kept > /data/file; chmod 600 /data/file")
    plain = run("sleep", "1000", network="none", volumes=("box:/data",))

    assert output_of(plain, "cat /data/file; stat -c %u /data/file") == "kept\n0\n"
    assert output_of(apart, "stat -c %u /data /data/file") == "0\n0\n"


def test_killed_at_any_moment_while_it_is_made_filled_or_removed_nothing_half_made_stays(
    native: NativeBackend, image: str, root: Path
) -> None:
    moments = 0
    for turn, act in enumerate((
        lambda: create(native, image, "first", "new:/data"),
        lambda: create(native, image, "second", "old:/data"),
        lambda: native.volume_remove("gone", R),
    )):  # fmt: skip
        for number in range(1, 60):
            for name in ("old", "gone"):
                if name not in volumes(native):
                    native.volume_create(VolumeSpec(name), R)
            was_killed = dies_at(number, act)
            native.clean(R)
            assert not list((root / "volumes").rglob(".*"))
            for name in volumes(native):
                wholes = {"new": (FILLED,), "old": ([], FILLED), "gone": ([],)}
                assert files_of(native, name) in wholes[name], (turn, number)
            for guest in native.guests():
                native.remove(guest.ref, R, force=True)
            native.volume_prune(R)
            if not was_killed:
                break
            moments += 1
        else:
            pytest.fail("it never came to its end")
    assert moments > 15
    create(native, image, "after", "new:/data")
    assert files_of(native, "new") == FILLED


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": "1"}', "\xff"])
def test_a_volume_whose_record_is_damaged_keeps_its_files_and_can_be_used_and_removed(
    native: NativeBackend, root: Path, text: str
) -> None:
    folder = Path(native.volume_create(VolumeSpec("box"), R).folder)
    native.volume_create(VolumeSpec("other"), R)
    (folder / "file").write_text("kept")
    (root / "volumes" / "box" / "volume.json").write_bytes(text.encode("latin-1"))

    assert [(each.name, "damaged" in each.note) for each in native.volumes()] == [("box", True), ("other", False)]
    guest = native.create(ContainerSpec("host", ("true",), volumes=("box:/data",)), R)
    assert files_of(native, "box") == ["file"]
    native.remove(guest.ref, R)
    assert native.clean(R) == []
    native.volume_remove("box", R)
    assert list(volumes(native)) == ["other"]


def test_a_client_that_is_killed_while_it_has_the_lock_keeps_nobody_waiting(native: NativeBackend, root: Path) -> None:
    native.volume_create(VolumeSpec("box"), R)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with locked(root / "volumes" / "box" / "lock"):
            os.write(writing, b"x")
            signal.pause()
    os.read(reading, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    native.volume_remove("box", R)

    assert native.volumes() == []


def test_many_that_begin_with_one_new_volume_at_once_all_have_the_same(native: NativeBackend, root: Path) -> None:
    inn = [sys.executable, "-I", str(Path(__file__).resolve().parents[2] / "innkeeper.py"), "--root", str(root)]
    words = ["create", "--network", "none", "-v", "box:/data", "host", "true"]
    started = [subprocess.Popen([*inn, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(6)]

    said = [each.communicate(timeout=90)[0].decode() for each in started]

    assert [each.returncode for each in started] == [0] * 6, said
    wait_until(lambda: len(native.guests()) == 6)
    assert [len(users) for users in volumes(native).values()] == [6]
    assert native.clean(R) == []
