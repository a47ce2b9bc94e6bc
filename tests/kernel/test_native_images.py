"""Images from tars and folders, hostile ones too."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from backends.container import ContainerSpec
from backends.errors import AlreadyExists, Busy, InnkeeperError, NotFound, UsageError
from backends.model import Guest
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import log_of
from tests.tools.needs import needs

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(120)]
Run = Callable[..., Guest]
R = Recorder("test")


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    """Add an entry with any fields."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o755
    for key, value in fields.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(data) if data else None)


def nothing_is_left(root: Path) -> bool:
    """Say whether the store has no blob, no layer, and nothing half made."""
    found = [path for name in ("images/blobs/sha256", "images/partial", "layers") for path in (root / name).glob("*")]
    return found == [] and not list((root / "images").glob(".*"))


@pytest.fixture
def busybox() -> bytes:
    """The one program of a small image."""
    return Path("/bin/busybox").read_bytes()


def small_root(busybox: bytes, mode: Literal["w", "w:gz", "w:bz2", "w:xz"] = "w") -> bytes:
    """Return a tar with a root file system of one program."""
    buffer = io.BytesIO()
    with tarfile.open(None, mode, buffer) as archive:
        add(archive, "bin", type=tarfile.DIRTYPE)
        add(archive, "bin/busybox", busybox)
        for name in ("sh", "cat", "id", "ls", "sleep"):
            add(archive, f"bin/{name}", type=tarfile.SYMTYPE, linkname="busybox")
        add(archive, "etc", type=tarfile.DIRTYPE)
        add(archive, "etc/passwd", b"root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n", mode=0o644)
        add(archive, "etc/group", b"root:x:0:\nann:x:1000:\nusers:x:100:ann\n", mode=0o644)
        add(archive, "home/ann/note", b"hers\n", mode=0o600, uid=1000, gid=1000)
        add(archive, "tmp", type=tarfile.DIRTYPE, mode=0o1777)
        add(archive, "bin/set", busybox[:10], mode=0o4755)
    return buffer.getvalue()


@needs("busybox")
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_becomes_an_image_that_runs(
    native: NativeBackend, run: Run, root: Path, busybox: bytes, mode: Literal["w", "w:gz", "w:bz2", "w:xz"]
) -> None:
    path = root / "small.tar"
    path.write_bytes(small_root(busybox, mode))
    image = native.image_import("small", str(path), R)
    guest = run("sh", "-c", "id; cat /home/ann/note", image="small", user="ann")
    assert native.wait(guest.ref, timeout_s=30) == 0
    assert "uid=1000(ann) gid=1000(ann)" in log_of(native, guest)
    assert "100(users)" in log_of(native, guest)
    assert "hers" in log_of(native, guest)
    assert image.size_bytes
    assert image.size_bytes >= len(busybox)


@needs("busybox")
def test_a_folder_and_a_stream_become_images_too(native: NativeBackend, run: Run, root: Path, busybox: bytes) -> None:
    native.image_import("streamed", io.BytesIO(small_root(busybox)), R)
    folder = Path(native.image_inspect("streamed")["layers"][0]["folder"])
    assert stat.S_IMODE((folder / "bin/set").stat().st_mode) == 0o4755
    assert (folder / "home/ann/note").stat().st_uid == 1000
    native.image_import("copied", str(folder), R)
    for name in ("streamed", "copied"):
        guest = run("ls", "/bin", image=name)
        native.wait(guest.ref, timeout_s=30)
        assert log_of(native, guest).split() == ["busybox", "cat", "id", "ls", "set", "sh", "sleep"]
    assert {image.name for image in native.images()} == {"host", "streamed:latest", "copied:latest"}


def test_a_folder_of_which_tar_complains_a_lot_becomes_an_image_all_the_same(native: NativeBackend, root: Path) -> None:
    source = root / "source"
    source.mkdir()
    (source / "file").write_text("x")
    for number in range(600):  # more complaints than a pipe holds
        os.mknod(source / f"{'socket' * 30}{number}", stat.S_IFSOCK | 0o600)
    native.image_import("with-sockets", str(source), R)
    folder = Path(native.image_inspect("with-sockets")["layers"][0]["folder"])
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_an_image_in_use_is_not_removed(native: NativeBackend, root: Path) -> None:
    source = root / "source"
    (source / "etc").mkdir(parents=True)
    native.image_import("used", str(source), R)
    guest = native.create(ContainerSpec("used", ("/x",), name="user"), R)
    with pytest.raises(Busy, match="user"):
        native.image_remove("used", R)
    native.remove(guest.ref, R)
    native.image_remove("used", R)
    with pytest.raises(NotFound):
        native.image_remove("used", R)
    assert nothing_is_left(root)


def _hostile() -> dict[str, bytes]:
    found = {}

    def made(name: str, *entries: tuple[str, bytes, dict[str, object]]) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for entry, data, fields in entries:
                add(archive, entry, data, **fields)
        found[name] = buffer.getvalue()

    link = {"type": tarfile.SYMTYPE}
    made("dots", ("../../../escaped", b"x", {}))
    made("absolute", ("/ESCAPE/escaped", b"x", {}))
    made("symlink", ("out", b"", link | {"linkname": "/ESCAPE"}), ("out/escaped", b"x", {}))
    made("symlink-up", ("out", b"", link | {"linkname": "../../../../.."}), ("out/ESCAPE/escaped", b"x", {}))
    made("hardlink", ("out", b"", {"type": tarfile.LNKTYPE, "linkname": "/ESCAPE/victim"}), ("out", b"x", {}))
    return found


@pytest.mark.parametrize("kind", sorted(_hostile()))
def test_a_hostile_tar_writes_nothing_outside(native: NativeBackend, root: Path, kind: str) -> None:
    outside = root / "outside"
    outside.mkdir()
    (outside / "victim").write_text("whole")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(_hostile()[kind])) as given, tarfile.open(fileobj=buffer, mode="w") as made:
        for member in given:
            member.name = member.name.replace("/ESCAPE", str(outside))
            member.linkname = member.linkname.replace("/ESCAPE", str(outside))
            made.addfile(member, given.extractfile(member) if member.isreg() else None)
    try:
        native.image_import("hostile", io.BytesIO(buffer.getvalue()), R)
    except InnkeeperError:
        assert nothing_is_left(root)
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"victim": "whole"}
    assert not (root / "escaped").exists()
    assert not Path("/escaped").exists()


@pytest.mark.parametrize(
    "source,words",
    [(b"", "unpack"), (b"not a tar" * 200, "unpack"), (b"\x1f\x8b" + b"\0" * 300, "unpack"), (b"\0" * 10240, "empty")],
)
def test_what_is_no_archive_leaves_nothing_behind(native: NativeBackend, root: Path, source: bytes, words: str) -> None:
    with pytest.raises(InnkeeperError, match=words):
        native.image_import("bad", io.BytesIO(source), R)
    assert nothing_is_left(root)


@needs("busybox")
def test_a_tar_cut_short_leaves_nothing_behind(native: NativeBackend, root: Path, busybox: bytes) -> None:
    whole = small_root(busybox)
    with pytest.raises(InnkeeperError, match="unpack"):
        native.image_import("cut", io.BytesIO(whole[: len(whole) // 2]), R)
    assert nothing_is_left(root)


def test_names_are_checked_and_taken_names_refused(native: NativeBackend, root: Path) -> None:
    source = root / "source"
    (source / "etc").mkdir(parents=True)
    native.image_import("one", str(source), R)
    for name in ("one", "host"):
        with pytest.raises(AlreadyExists):
            native.image_import(name, str(source), R)
    with pytest.raises(UsageError):
        native.image_import("../one", str(source), R)
    with pytest.raises(NotFound):
        native.image_import("two", str(root / "nowhere"), R)
    with pytest.raises(NotFound):
        native.create(ContainerSpec("nowhere", ("true",)), R)
