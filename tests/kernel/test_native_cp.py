"""Copying files into and out of real containers, and what a hostile one makes of it."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.errors import InnkeeperError, NotFound
from backends.model import Guest, GuestRef, GuestState
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import log_of, now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.shared_state, pytest.mark.timeout(60)]
Run = Callable[..., Guest]
R = Recorder("test")
STATES = pytest.mark.parametrize("state", ["running", "paused", "stopped"])


def made(run: Run, native: NativeBackend, line: str, state: str) -> Guest:
    """Return a container in which the line was run, in a state."""
    guest = run("sh", "-c", f"{line}; echo ready; exec sleep 1000")
    wait_until(lambda: "ready" in log_of(native, guest))
    if state == "paused":
        native.pause(guest.ref, R)
    elif state == "stopped":
        native.stop(guest.ref, R, timeout_s=0)
    return guest


def copied_out(native: NativeBackend, ref: GuestRef, path: str) -> dict[str, tarfile.TarInfo]:
    archive = native.copy_out(ref, path)
    with archive.stream, tarfile.open(fileobj=archive.stream, mode="r|") as tar:
        return {entry.name: entry for entry in tar}


def content_of(native: NativeBackend, ref: GuestRef, path: str) -> bytes:
    archive = native.copy_out(ref, path)
    with archive.stream, tarfile.open(fileobj=archive.stream, mode="r|") as tar:
        for entry in tar:
            file = tar.extractfile(entry)
            assert file is not None
            return file.read()
    raise AssertionError("an empty archive")


def archive_of(**files: bytes | str) -> io.BytesIO:
    """Return a tar with files (bytes) and links (text)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.mode, entry.uid, entry.gid, entry.mtime = 0o640, 1234, 567, 1_600_000_000
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    buffer.seek(0)
    return buffer


@STATES
def test_a_tree_comes_out_as_it_is(native: NativeBackend, run: Run, state: str) -> None:
    line = (
        "mkdir -p /root/t/empty; echo hello > /root/t/file; chown 7:8 /root/t/file; chmod 4751 /root/t/file;"
        "ln -s /nowhere /root/t/link; ln /root/t/file /root/t/second; mkfifo /root/t/fifo; touch -d @1000000000 /root/t"
    )
    guest = made(run, native, line, state)
    found = copied_out(native, guest.ref, "/root/t")
    assert set(found) == {"t", "t/empty", "t/file", "t/link", "t/second", "t/fifo"}
    assert (found["t/file"].mode, found["t/file"].uid, found["t/file"].gid) == (0o4751, 7, 8)
    assert (found["t/link"].linkname, found["t/second"].linkname) == ("/nowhere", "t/file")
    assert found["t"].mtime == 1_000_000_000
    assert content_of(native, guest.ref, "/root/t/file") == b"hello\n"


@STATES
def test_a_tree_goes_in_with_its_owners_modes_and_times(native: NativeBackend, run: Run, state: str) -> None:
    guest = made(run, native, "mkdir /root/in", state)
    native.copy_in(guest.ref, "/root/in", archive_of(a=b"1", deep__er__b=b"22", link="a"), R)
    if state == "stopped":
        native.start(guest.ref, R)
    elif state == "paused":
        native.resume(guest.ref, R)
    found = copied_out(native, guest.ref, "/root/in/.")
    assert {"./a", "./deep", "./deep/er", "./deep/er/b", "./link"} <= set(found)
    entry = found["./a"]
    assert (entry.uid, entry.gid, entry.mode, entry.mtime) == (1234, 567, 0o640, 1_600_000_000)
    assert content_of(native, guest.ref, "/root/in/deep/er/b") == b"22"


def test_what_is_not_there_is_said(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    for path in ("/no/such", "/root/nothing", "/etc/passwd/."):
        with pytest.raises(NotFound, match=path):
            native.copy_out(guest.ref, path)
    with pytest.raises(NotFound):
        native.copy_in(guest.ref, "/no/such", archive_of(a=b"1"), R)
    with pytest.raises(InnkeeperError, match="damaged"):
        native.copy_in(guest.ref, "/root", io.BytesIO(b"no archive at all" * 100), R)


def test_links_of_the_container_lead_nowhere_on_the_host(native: NativeBackend, run: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    lines = [f"ln -s {tmp_path} /root/away", "ln -s ../../../../../.. /root/up", "ln -s /proc/1/root /root/magic"]
    for state in ("running", "stopped"):
        guest = made(run, native, "; ".join(lines), state)
        for path in (f"/root/away/{secret.name}", f"/root/up{secret}", f"/root/magic{secret}"):
            with pytest.raises(InnkeeperError):
                native.copy_out(guest.ref, path)
        with pytest.raises(InnkeeperError):
            native.copy_in(guest.ref, "/root/away", archive_of(secret=b"stolen"), R)
        native.copy_in(guest.ref, "/root", archive_of(up__root__x=b"inside"), R)
        assert content_of(native, guest.ref, "/root/x") == b"inside"
        native.remove(guest.ref, R, force=True)
    assert secret.read_text() == "of the host"


def test_an_archive_cannot_lead_out_of_its_folder(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "mkdir /root/in; exec sleep 1000")
    wait_until(lambda: native.copy_out(guest.ref, "/root/in").stream.close() is None)
    for name in ("..__x", "a__..__..__x"):
        with pytest.raises(InnkeeperError, match="leads out"):
            native.copy_in(guest.ref, "/root/in", archive_of(**{name: b"1"}), R)
    with pytest.raises(NotFound):
        native.copy_out(guest.ref, "/root/x")


def test_a_folder_that_is_exchanged_for_a_link_all_the_time_gives_nothing_of_the_host_away(
    native: NativeBackend, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("of the host")
    swap = f"""
import os, ctypes
libc = ctypes.CDLL(None)
os.makedirs("/root/real"); open("/root/real/file", "w").write("of the guest")
os.symlink({str(tmp_path)!r}, "/root/link"); print("up", flush=True)
while True:
    libc.renameat2(-100, b"/root/real", -100, b"/root/link", 2)
"""
    guest = run("python3", "-c", swap)
    wait_until(lambda: "up" in log_of(native, guest), timeout_s=30)
    seen = set()
    for _ in range(15):
        try:
            seen.add(content_of(native, guest.ref, "/root/real/file"))
        except (InnkeeperError, AssertionError):
            seen.add(b"")
        try:
            native.copy_in(guest.ref, "/root/real", archive_of(file=b"of the guest"), R)
        except InnkeeperError:
            continue
    assert seen <= {b"of the guest", b""}
    assert (tmp_path / "file").read_text() == "of the host"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_no_file_of_the_container_is_run_or_loaded(native: NativeBackend, run: Run, tmp_path: Path) -> None:
    """A library of the image that a lookup of users would load leaves a mark when it is (CVE-2019-14271)."""
    guest = made(run, native, "mkdir -p /root/t; touch /root/t/f; chown 4242:4242 /root/t/f", "running")
    watched = threading.Event()
    roots: set[str] = set()

    def watch() -> None:
        inside = os.stat(f"/proc/{now(native, guest).pid}/root/")
        while not watched.is_set():
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    if "copier" in Path(f"/proc/{pid}/cmdline").read_text():
                        root = os.stat(f"/proc/{pid}/root/")
                        roots.add("inside" if (root.st_dev, root.st_ino) == (inside.st_dev, inside.st_ino) else "host")
                        maps = Path(f"/proc/{pid}/maps").read_text()
                        assert "overlay" not in maps
                except OSError:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(3):
        copied_out(native, guest.ref, "/root/t")
        native.copy_in(guest.ref, "/root/t", archive_of(a=b"1"), R)
    watched.set()
    thread.join()
    assert roots == {"host"}


def test_a_copy_that_is_given_up_ends_its_process_and_lets_the_container_start(native: NativeBackend, run: Run) -> None:
    guest = made(run, native, "head -c 30000000 /dev/zero > /root/big", "stopped")
    archive = native.copy_out(guest.ref, "/root/big")
    assert archive.stream.read(100)
    archive.stream.close()
    native.start(guest.ref, R)
    assert now(native, guest).state is GuestState.RUNNING


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_owners_are_those_that_a_container_with_users_of_its_own_sees(
    native: NativeBackend, run: Run, state: str
) -> None:
    try:
        guest = run("sh", "-c", "touch /root/f; chown 5:6 /root/f; echo up; exec sleep 1000", userns="auto")
    except InnkeeperError as error:
        pytest.skip(f"no user namespaces here: {error.message}")
    wait_until(lambda: "up" in log_of(native, guest))
    if state == "stopped":
        native.stop(guest.ref, R, timeout_s=0)
    native.copy_in(guest.ref, "/root", archive_of(a=b"1"), R)
    found = copied_out(native, guest.ref, "/root/.")
    assert [(found[name].uid, found[name].gid) for name in ("./f", "./a")] == [(5, 6), (1234, 567)]
