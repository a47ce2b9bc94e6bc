"""Logs that are put aside when they are full, read and followed as one, and never in the program's way."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from backends.container import LogLimits
from backends.model import Guest
from backends.native import log
from backends.native.backend import NativeBackend
from backends.native.log import LogWriter
from backends.trace import Recorder
from tests.tools.containers import log_of, now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

Run = Callable[..., Guest]
R = Recorder("test")
pytestmark = pytest.mark.timeout(60)


def read(path: Path, tail: int | None = None) -> bytes:
    return b"".join(line.data for line in log.read(path, tail=tail))


def test_a_full_log_is_put_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log", LogLimits(max_bytes=1000, max_files=3))
    for number in range(200):
        writer.write("stdout", b"line %d\n" % number)
    writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    kept = read(tmp_path / "log").decode().splitlines()
    assert kept == [f"line {number}" for number in range(200 - len(kept), 200)]
    assert len(kept) > 40


def test_the_last_lines_reach_into_files_that_were_put_aside(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log", LogLimits(max_bytes=400, max_files=4))
    for number in range(30):
        writer.write("stdout", b"line %d\n" % number)
    for tail in (0, 1, 5, 20):
        assert read(tmp_path / "log", tail).decode().split("\n")[:-1] == [f"line {n}" for n in range(30 - tail, 30)]
    writer.close()


def test_one_file_begins_anew_when_it_is_full(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log", LogLimits(max_bytes=500, max_files=1))
    for number in range(100):
        writer.write("stdout", b"line %d\n" % number)
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert read(tmp_path / "log").endswith(b"line 99\n")


def test_following_misses_nothing_however_often_the_log_is_put_aside(tmp_path: Path) -> None:
    path, lines, ended = tmp_path / "log", 3000, threading.Event()
    writer = LogWriter(path, LogLimits(max_bytes=20_000, max_files=12))

    def write() -> None:
        for number in range(lines):
            writer.write("stdout", b"line %d\n" % number)
        writer.close()
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    found = b"".join(line.data for line in log.follow(path, ended.is_set, lambda: False))
    thread.join()
    assert found.decode().splitlines() == [f"line {number}" for number in range(lines)]
    assert (tmp_path / "log.5").exists()


def test_what_is_written_after_one_asked_to_follow_is_read_however_late_one_begins(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log", LogLimits(max_bytes=300, max_files=3))
    writer.write("stdout", b"before\n")
    lines = log.follow(tmp_path / "log", lambda: True, lambda: False, tail=0)
    for number in range(3):
        writer.write("stdout", b"after %d\n" % number)
    writer.close()
    assert [line.data for line in lines] == [b"after 0\n", b"after 1\n", b"after 2\n"]


@pytest.mark.parametrize("files", [1, 2, 4])
def test_nothing_is_put_away_before_who_waits_for_all_of_it_has_read_it(tmp_path: Path, files: int) -> None:
    path, ended = tmp_path / "log", threading.Event()
    writer = LogWriter(path, LogLimits(max_bytes=1000, max_files=files))
    pieces = log.stream(path, ended.is_set, lambda: False)
    number = 0
    while not writer.is_held_up():
        writer.write("stdout", b"line %d\n" % number)
        number += 1
    assert number > 15 * files
    first = next(pieces).data
    writer.write("stdout", b"last")
    writer.close()
    ended.set()
    everything = first + b"".join(piece.data for piece in pieces)
    assert everything == b"".join(b"line %d\n" % i for i in range(number)) + b"last"


def test_who_only_follows_holds_up_nobody(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LogWriter(path, LogLimits(max_bytes=1000, max_files=2))
    writer.write("stdout", b"begin\n")
    lines = log.follow(path, lambda: False, lambda: False)
    assert next(lines).data == b"begin\n"
    for _ in range(200):
        writer.write("stdout", b"x" * 40 + b"\n")
    assert not writer.is_held_up()
    writer.close()


def test_a_cleared_log_is_empty_and_is_written_and_followed_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LogWriter(path, LogLimits(max_bytes=300, max_files=3))
    for _ in range(20):
        writer.write("stdout", b"before\n")
    seen: list[bytes] = []
    over = threading.Event()

    def follow() -> None:
        seen.extend(line.data for line in log.follow(path, lambda: False, over.is_set, tail=0))

    thread = threading.Thread(target=follow)
    thread.start()
    writer.clear()
    assert read(path) == b""
    assert [found.name for found in tmp_path.iterdir()] == ["log"]
    writer.write("stdout", b"after\n")
    wait_until(lambda: read(path) == b"after\n")
    over.set()
    thread.join()
    writer.close()
    assert b"before\n" not in seen


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 256 KiB, in a mount namespace that others do not look into."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@needs("root")
def test_on_a_full_disk_output_is_dropped_with_a_mark_and_no_half_line(small_disk: Path) -> None:
    writer = LogWriter(small_disk / "log", LogLimits(max_bytes=0))
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 200_000)
    for _ in range(100):
        writer.write("stdout", b"y" * 999 + b"\n")
    ballast.unlink()
    writer.write("stdout", b"there is room again\n")
    writer.close()
    *whole, mark, last = read(small_disk / "log").decode().splitlines()
    assert last == "there is room again"
    lost = 100 - len(whole)
    assert lost > 0
    assert mark == f"[innkeeper: {lost * 1000} bytes of output are lost: No space left on device]"
    assert set(whole) == {"y" * 999}


@needs("root", "cgroup.cpu")
@pytest.mark.parametrize("kind", ["nul", "latin", "long"])
def test_any_bytes_come_back_as_they_were_printed(native: NativeBackend, run: Run, kind: str) -> None:
    program = {
        "nul": r"printf 'a\0b\0\0c\n\0'",
        "latin": r"printf '\377\376 caf\351\n\200'",
        "long": "head -c 10485760 /dev/zero | tr '\\0' z; echo; echo end",
    }[kind]
    wanted = {"nul": b"a\0b\0\0c\n\0", "latin": b"\xff\xfe caf\xe9\n\x80", "long": b"z" * 10485760 + b"\nend\n"}[kind]
    guest = run("sh", "-c", program, log=LogLimits(max_bytes=0))
    native.wait(guest.ref, timeout_s=30)
    assert b"".join(line.data for line in native.logs(guest.ref)) == wanted


@needs("root", "cgroup.cpu")
def test_a_container_that_floods_its_log_neither_fills_the_disk_nor_stands_still(
    native: NativeBackend, run: Run, root: Path
) -> None:
    guest = run("sh", "-c", "yes flood | head -c 5000000; echo done", log=LogLimits(max_bytes=100_000, max_files=3))
    assert native.wait(guest.ref, timeout_s=30) == 0
    files = list((root / "containers" / guest.ref.id).glob("log*"))
    assert len(files) == 3
    assert sum(path.stat().st_size for path in files) <= 300_000
    assert log_of(native, guest).endswith("done\n")


@needs("root", "cgroup.cpu")
def test_the_log_of_a_live_container_and_of_an_ended_one_can_be_cleared(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "echo one; read line; echo two", stdin=True)
    wait_until(lambda: log_of(native, guest) == "one\n")
    native.clear_log(guest.ref, R)
    assert log_of(native, guest) == ""
    session = native.attach(guest.ref)
    session.write(b"\n")
    native.wait(guest.ref, timeout_s=30)
    session.close()
    assert log_of(native, guest) == "two\n"
    native.clear_log(guest.ref, R)
    assert log_of(native, guest) == ""


@needs("root", "cgroup.cpu")
def test_a_container_on_a_full_disk_runs_on_and_its_end_is_on_record(run: Run, small_disk: Path) -> None:
    from backends.container import ContainerSpec
    from backends.native.backend import make
    from backends.registry import BackendConfig

    backend = make(BackendConfig(small_disk / "state", small_disk / "run"))
    backend.open()
    try:
        line = "echo up; read go; yes lost | head -c 1000000; exit 7"
        guest = backend.create(ContainerSpec("host", ("sh", "-c", line), network="none", stdin=True), R)
        backend.start(guest.ref, R)
        wait_until(lambda: log_of(backend, guest) == "up\n")
        with suppress(OSError):
            (small_disk / "ballast").write_bytes(b"x" * 300_000)
        session = backend.attach(guest.ref)
        session.write(b"go\n")
        assert backend.wait(guest.ref, timeout_s=30) == 7
        session.close()
        (small_disk / "ballast").unlink()
        wait_until(lambda: not now(backend, guest).state.is_live)
        assert now(backend, guest).exit_code == 7
        backend.remove(guest.ref, R)
    finally:
        backend.clean(R)
        backend.shutdown()
        backend.close()
