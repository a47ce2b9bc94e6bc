"""Layers that are copied while they are written to: the copy is exact in the end, and not all of it made at the end."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import stat
import time
from pathlib import Path

import pytest

from backends.errors import InnkeeperError
from backends.native.layers.replicating import LayerCopy
from backends.trace import Recorder
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root"), pytest.mark.timeout(60)]
R = Recorder("test")
ROUNDS = int(os.environ.get("INNKEEPER_ROUNDS", "3"))
EXCHANGE = 2


def exactly(folder: Path) -> dict[str, object]:
    """Return all that a layer is: by path, what lstat, readlink and listxattr say, and the content."""
    found: dict[str, object] = {}
    first_names: dict[int, str] = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        seen = path.lstat()
        shown = str(path).removeprefix(str(folder))
        data: object = None
        if stat.S_ISREG(seen.st_mode):
            data = path.read_bytes()
        elif stat.S_ISLNK(seen.st_mode):
            data = path.readlink()
        keys = os.listxattr(path, follow_symlinks=False)
        attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in keys}
        same = first_names.setdefault(seen.st_ino, shown)
        found[shown] = (
            *(seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns, seen.st_rdev),
            *(attributes, data, same),
        )
    return found


def settled(folder: Path) -> Path:
    """Wait until nothing in a folder was changed just now."""
    newest = max(path.lstat().st_ctime for path in (folder, *folder.rglob("*")))
    wait_until(lambda: time.time() > newest + 2.1, timeout_s=5)
    return folder


def filled(folder: Path) -> Path:
    """Make a layer with something of every kind."""
    for name in ("a/b", "c", "d"):
        (folder / name).mkdir(parents=True)
    for number in range(20):
        (folder / f"a/b/{number}").write_bytes(b"%d" % number * 50)
    (folder / "c/twin").write_bytes(b"one")
    os.link(folder / "c/twin", folder / "d/twin")
    os.link(folder / "c/twin", folder / "twin")
    os.mknod(folder / "gone", stat.S_IFCHR)
    os.mkfifo(folder / "c/pipe")
    os.symlink("/etc", folder / "c/link")
    os.setxattr(folder / "c", "trusted.overlay.opaque", b"y")
    os.setxattr(folder / "c/twin", "user.key", b"value")
    os.lchown(folder / "c/link", 1, 2)
    os.chown(folder / "d", 33, 34)
    (folder / "d").chmod(0o2775)
    with (folder / "sparse").open("wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(os.urandom(300_000))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return filled(folder)


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    folder = tmp_path / "draft"
    folder.mkdir()
    return folder


def test_a_copy_is_exact_with_its_links_holes_owners_and_attributes(source: Path, draft: Path) -> None:
    with LayerCopy(str(source), draft, "fs") as copy:
        copy.finish(R)
        assert exactly(draft / "fs") == exactly(source)
        assert (draft / "fs/sparse").stat().st_blocks <= (source / "sparse").stat().st_blocks
    assert not draft.exists()


def test_what_has_not_changed_is_not_copied_again(source: Path, draft: Path) -> None:
    with LayerCopy(str(settled(source)), draft, "fs") as copy:
        copy.follow(R)
        before = {path: path.lstat().st_ctime_ns for path in draft.rglob("*")}
        (source / "a/b/3").write_bytes(b"new")
        copy.finish(R)
        after = {path: path.lstat().st_ctime_ns for path in draft.rglob("*")}
        assert exactly(draft / "fs") == exactly(source)
    assert {path.name for path in before if before[path] != after[path]} <= {"3", "b", "fs"}
    assert before[draft / "fs/a/b/3"] != after[draft / "fs/a/b/3"]


def test_a_change_that_leaves_size_and_time_alone_is_seen(source: Path, draft: Path) -> None:
    with LayerCopy(str(settled(source)), draft, "fs") as copy:
        copy.follow(R)
        found = (source / "a/b/3").stat()
        (source / "a/b/3").write_bytes(b"9" * found.st_size)
        os.utime(source / "a/b/3", ns=(found.st_atime_ns, found.st_mtime_ns))
        copy.finish(R)
        assert exactly(draft / "fs") == exactly(source)


def test_a_write_to_mapped_memory_that_was_dirty_before_is_seen(source: Path, draft: Path) -> None:
    with (source / "mapped").open("w+b") as file:
        file.truncate(4096)
        with mmap.mmap(file.fileno(), 4096) as memory:
            memory[:5] = b"first"
            settled(source)
            with LayerCopy(str(source), draft, "fs") as copy:
                copy.follow(R)
                assert (draft / "fs/mapped").read_bytes()[:5] == b"first"
                memory[:5] = b"later"
                copy.finish(R)
                assert (draft / "fs/mapped").read_bytes()[:5] == b"later"


def test_folders_that_change_places_take_their_files_along(source: Path, draft: Path) -> None:
    (source / "d/0").write_bytes(b"d")
    (source / "a/b/x").mkdir()
    (source / "d/x").mkdir()
    with LayerCopy(str(settled(source)), draft, "fs") as copy:
        copy.follow(R)
        libc = ctypes.CDLL(None, use_errno=True)
        pair = [str(source / name).encode() for name in ("a/b", "d")]
        assert libc.renameat2(-100, pair[0], -100, pair[1], EXCHANGE) == 0
        copy.finish(R)
        assert exactly(draft / "fs") == exactly(source)


def test_after_any_changes_between_the_passes_the_copy_is_exact(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        chance = random.Random(number)
        source, draft = filled(tmp_path / f"source{number}"), tmp_path / f"draft{number}"
        draft.mkdir()
        settled(source)
        with LayerCopy(str(source), draft, "fs") as copy:
            for _ in range(3):
                copy.update(is_live=True)
                for _ in range(chance.randrange(30)):
                    change(source, chance)
            copy.finish(R)
            assert exactly(draft / "fs") == exactly(source), number


def change(root: Path, chance: random.Random) -> None:
    """Do something to a tree."""
    paths = sorted(root.rglob("*"))
    one, other = chance.choice(paths), chance.choice(paths)
    place = (other if other.is_dir() and not other.is_symlink() else other.parent) / str(chance.randrange(99))
    kind = chance.randrange(8)
    is_file = stat.S_ISREG(one.lstat().st_mode)
    try:
        if kind == 0:
            os.rename(one, place)
        elif kind == 1:
            os.link(one, place, follow_symlinks=False)
        elif kind == 2 and is_file:
            with one.open("r+b") as file:
                file.write(chance.randbytes(chance.choice((1, 5000, 100_000))))
        elif kind == 3 and not one.is_dir():
            one.unlink()
        elif kind == 4:
            os.setxattr(one, f"trusted.k{chance.randrange(3)}", chance.randbytes(4), follow_symlinks=False)
        elif kind == 5:
            os.removexattr(one, chance.choice(os.listxattr(one, follow_symlinks=False)), follow_symlinks=False)
        elif kind == 6:
            os.chown(one, chance.randrange(9), chance.randrange(9), follow_symlinks=False)
        else:
            chance.choice((Path.mkdir, Path.touch, os.mkfifo, lambda path: path.symlink_to(one)))(place)
    except (OSError, IndexError):
        pass  # a folder into itself, a name that is taken


def test_a_container_that_moves_folders_and_links_about_gets_no_file_of_the_host(source: Path, draft: Path) -> None:
    secret = draft.parent / "secret"
    secret.mkdir()
    (secret / "3").write_bytes(b"secret")
    settled(source)
    pid = os.fork()
    if pid == 0:
        while True:  # until it is killed
            os.rename(source / "a/b", source / "a/c")
            os.symlink(secret, source / "a/b")
            os.unlink(source / "a/b")
            os.rename(source / "a/c", source / "a/b")
    try:
        with LayerCopy(str(source), draft, "fs") as copy:
            for _ in range(30):
                copy.update(is_live=True)
                assert not [path for path in draft.rglob("3") if path.read_bytes() == b"secret"]
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_copy_that_fails_says_why_and_leaves_nothing(source: Path, draft: Path) -> None:
    with (
        pytest.raises(InnkeeperError, match=r"cannot copy .*/missing: .*No such file"),
        LayerCopy(str(source / "missing"), draft, "fs") as copy,
    ):
        copy.finish(R)
    assert not draft.exists()
