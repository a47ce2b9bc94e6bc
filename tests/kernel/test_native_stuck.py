"""Containers whose processes SIGKILL does not end for now, as those that wait for a dead disk."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from backends.container import ExecSpec, RestartPolicy
from backends.errors import WrongState
from backends.model import Guest, GuestState
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.kernel.test_native_survival import is_alive, kill_and_wait, supervisor_pid
from tests.tools.containers import now
from tests.tools.needs import facility, needs
from tests.tools.slow_disk import waiting_process
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.freeze"), pytest.mark.timeout(120)]
Run = Callable[..., Guest]
R = Recorder("test")


@facility("fuse")
def _fuse(_: str) -> str:
    return "" if os.path.exists("/dev/fuse") else "this kernel has no FUSE"


@contextmanager
def out_of_reach(native: NativeBackend, guest: Guest) -> Iterator[None]:
    """Freeze a container's processes by a v1 group below its own: no signal ends them, nor does thawing its own."""
    folders = native.inspect(guest.ref)["cgroup"]["folders"]
    group = next(Path(folder) for folder in folders if "freezer" in Path(folder).parts)
    below = group / "below"
    below.mkdir()
    for pid in (group / "cgroup.procs").read_text().split():
        (below / "cgroup.procs").write_text(pid)
    state = below / "freezer.state"
    state.write_text("FROZEN")
    wait_until(lambda: state.read_text().strip() == "FROZEN")
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            state.write_text("THAWED")


def is_being_cleaned_up(root: Path, guest: Guest) -> bool:
    """Say whether somebody holds the second byte of its life lock."""
    with open(root / "run" / "containers" / guest.ref.id / "alive", "rb") as file:
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 1, 1, 0)
        return bool(struct.unpack_from("h", fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK)


@needs("cgroup1.freezer")
def test_starts_go_on_while_a_container_without_supervisor_cannot_be_ended(
    native: NativeBackend, run: Run, root: Path
) -> None:
    guest = run("sleep", "1000", restart=RestartPolicy("always"))
    before = now(native, guest).pid

    def starts_while_it_is_cleaned_up() -> bool:
        return is_being_cleaned_up(root, guest) and bool(run("true")) and is_being_cleaned_up(root, guest)

    with out_of_reach(native, guest):
        kill_and_wait(supervisor_pid(native, guest))
        wait_until(starts_while_it_is_cleaned_up)
        assert is_alive(before)
    # As soon as it can be ended, it comes back.
    wait_until(lambda: now(native, guest).state is GuestState.RUNNING and now(native, guest).pid != before)
    assert now(native, guest).restarts == 1


@needs("cgroup1.freezer")
def test_a_supervisor_answers_while_its_container_does_not_end(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    with ThreadPoolExecutor(1) as aside:
        with out_of_reach(native, guest):
            stopping = aside.submit(native.stop, guest.ref, R, timeout_s=0.0)
            wait_until(lambda: now(native, guest).state is GuestState.STOPPING)
            for _ in range(3):
                assert native._supervisor(guest.ref).ask({"op": "ping"})["pid"] == now(native, guest).pid
            assert not stopping.done()
        stopping.result()
    assert now(native, guest).exit_code == 137


@needs("fuse")
def test_a_supervisor_serves_others_while_its_container_does_not_freeze(
    native: NativeBackend, run: Run, tmp_path: Path
) -> None:
    guest = run("sleep", "1000")
    folders = [Path(folder) for folder in native.inspect(guest.ref)["cgroup"]["folders"]]
    group = next(folder for folder in folders if (folder / "cgroup.freeze").exists())
    with ThreadPoolExecutor(1) as aside:
        with waiting_process(tmp_path) as pid:
            (group / "cgroup.procs").write_text(str(pid))
            pausing = aside.submit(native.pause, guest.ref, R)
            wait_until(lambda: (group / "cgroup.freeze").read_text().strip() == "1")
            assert native._supervisor(guest.ref).ask({"op": "ping"})["pid"] == now(native, guest).pid
            with pytest.raises(WrongState, match="it is paused"):
                native.exec(guest.ref, ExecSpec(("true",)))
            assert not pausing.done()
        pausing.result()
    assert now(native, guest).state is GuestState.PAUSED
    native.resume(guest.ref, R)
    assert now(native, guest).state is GuestState.RUNNING


@needs("fuse")
def test_who_stops_a_container_that_is_being_paused_has_his_way(
    native: NativeBackend, run: Run, tmp_path: Path
) -> None:
    guest = run("sleep", "1000", init=True)
    folders = [Path(folder) for folder in native.inspect(guest.ref)["cgroup"]["folders"]]
    group = next(folder for folder in folders if (folder / "cgroup.freeze").exists())
    with ThreadPoolExecutor(1) as aside, waiting_process(tmp_path) as pid:
        (group / "cgroup.procs").write_text(str(pid))
        pausing = aside.submit(native.pause, guest.ref, R)
        wait_until(lambda: (group / "cgroup.freeze").read_text().strip() == "1")
        native.stop(guest.ref, R)
        with pytest.raises(WrongState, match="was not paused: it was told to stop"):
            pausing.result()
    assert now(native, guest).state is GuestState.STOPPED
