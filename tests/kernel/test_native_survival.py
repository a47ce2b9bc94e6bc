"""What lives on when something dies, and what is cleaned up after it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.container import ContainerSpec
from backends.errors import StartFailed
from backends.model import Guest, GuestState
from backends.native import protocol
from backends.native.backend import NativeBackend, make
from backends.registry import BackendConfig
from backends.trace import Recorder
from tests.tools.containers import log_of, now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(120)]
Run = Callable[..., Guest]
R = Recorder("test")


def spawner_pid(root: Path) -> int:
    """Ask the spawner who it is."""
    with protocol.connect(root / "run" / "spawner", 5.0) as sock:
        protocol.send(sock, {"op": "ping"})
        return int(protocol.receive(sock)[0]["pid"])


def kill_and_wait(pid: int) -> None:
    """Kill a process that is not our child and wait until it is gone."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid))
    finally:
        os.close(pidfd)


def is_alive(pid: int | None) -> bool:
    """True unless it is gone, or a zombie that nobody has reaped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def supervisor_pid(native: NativeBackend, guest: Guest) -> int:
    """Return who holds the container's life lock."""
    return native._store.supervisor_pid(guest.ref.id)


def test_a_container_outlives_the_spawner_with_its_log_and_exit_code(
    native: NativeBackend, run: Run, root: Path
) -> None:
    guest = run("sh", "-c", "echo before; sleep 1.5; echo after; exit 6")
    wait_until(lambda: "before" in log_of(native, guest))
    kill_and_wait(spawner_pid(root))
    assert now(native, guest).state is GuestState.RUNNING
    assert native.wait(guest.ref, timeout_s=30) == 6
    assert log_of(native, guest) == "before\nafter\n"


def test_a_new_spawner_comes_up_when_the_old_one_was_killed(native: NativeBackend, run: Run, root: Path) -> None:
    first = run("sleep", "1000")
    killed = spawner_pid(root)
    kill_and_wait(killed)
    second = run("sleep", "1000")
    assert spawner_pid(root) != killed
    assert [guest.state for guest in native.guests()] == [GuestState.RUNNING] * 2
    native.stop(first.ref, R, timeout_s=0.1)
    native.stop(second.ref, R, timeout_s=0.1)


def test_another_client_sees_and_stops_what_one_started(native: NativeBackend, run: Run, root: Path) -> None:
    guest = run("sleep", "1000")
    other = make(BackendConfig(root, root / "run"))
    other.open()
    assert [(found.ref, found.state) for found in other.guests()] == [(guest.ref, GuestState.RUNNING)]
    other.stop(guest.ref, R, timeout_s=0.1)
    assert now(native, guest).exit_code == 137
    other.close()


def test_the_spawner_cleans_up_after_a_supervisor_that_was_killed(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "sleep 1000 & sleep 1000")
    group = native.inspect(guest.ref)["cgroup"]["folders"][0]
    kill_and_wait(supervisor_pid(native, guest))
    wait_until(lambda: now(native, guest).state is GuestState.STOPPED)
    assert "supervisor" in now(native, guest).note
    assert now(native, guest).exit_code is None
    assert not Path(group).exists()


def test_without_a_spawner_a_container_whose_supervisor_died_is_lost_and_any_verb_mends_it(
    native: NativeBackend, run: Run, root: Path
) -> None:
    for mend in ("start", "stop", "kill", "remove", "clean"):
        guest = run("sh", "-c", "sleep 1000 & sleep 1000")
        kill_and_wait(spawner_pid(root))
        inside = now(native, guest).pid
        kill_and_wait(supervisor_pid(native, guest))
        assert now(native, guest).state is GuestState.LOST
        if mend == "clean":
            assert any(guest.name in line for line in native.clean(R))
        else:
            getattr(native, mend)(guest.ref, R)
        states = {found.ref: found.state for found in native.guests()}
        expected = {"start": GuestState.RUNNING, "remove": None}.get(mend, GuestState.STOPPED)
        assert states.get(guest.ref) is expected, mend
        assert not is_alive(inside), mend


def test_after_a_reboot_what_was_running_is_stopped(native: NativeBackend, run: Run, root: Path) -> None:
    guest = run("sleep", "1000")
    native.kill(guest.ref, R)
    native.wait(guest.ref, timeout_s=30)
    # What is on disk after a power cut: a live state that names another boot.
    path = root / "containers" / guest.ref.id / "status.json"
    status = json.loads(path.read_text())
    path.with_name("new").write_text(json.dumps(status | {"state": "running", "pid": 1, "boot_id": "another"}))
    path.with_name("new").rename(path)
    assert now(native, guest).state is GuestState.STOPPED
    assert "restarted" in now(native, guest).note
    native.start(guest.ref, R)
    assert now(native, guest).state is GuestState.RUNNING


def test_clean_removes_what_crashes_left_and_nothing_else(native: NativeBackend, run: Run, root: Path) -> None:
    guest = run("sleep", "1000")
    parent = Path(native.inspect(guest.ref)["cgroup"]["folders"][0]).parent
    (parent / "0123456789ab").mkdir()
    half = root / "containers" / ".half"
    half.mkdir()
    (root / "names" / "ghost").symlink_to("nobody")
    (root / "leases" / "10.0.0.77").write_text("nobody")
    for path in (half, root / "names" / "ghost"):
        os.utime(path, (0, 0), follow_symlinks=False)
    lines = native.clean(R)
    assert len(lines) == 4
    assert not (parent / "0123456789ab").exists()
    assert not half.exists()
    assert not (root / "names" / "ghost").is_symlink()
    assert now(native, guest).state is GuestState.RUNNING
    assert native.clean(R) == []


def test_a_stranger_on_the_sockets_cannot_crash_spawner_or_supervisor(
    native: NativeBackend, run: Run, root: Path
) -> None:
    guest = run("sleep", "1000")
    garbage = [b"{", b"[]", b"null", b"D" * 70000, b"E", b'{"op": "exec"}', b'{"op": "kill", "signal": "x"}',
               b'{"op": "resize"}', b'{"op": "start"}', b'{"op": 7}', os.urandom(500),
               b'{"op": "stop", "signal": 1e99}', b'{"op": "exec", "args": "x", "terminal": 1, "size": 5}']  # fmt: skip
    for path in (root / "run" / "spawner", root / "run" / "containers" / guest.ref.id / "control"):
        for data in garbage:
            with protocol.connect(path, 2.0) as sock:
                sock.send(data)
    spawner_pid(root)
    assert now(native, guest).state is GuestState.RUNNING
    other = native.create(ContainerSpec("host", ("true",)), R)
    native.start(other.ref, R)
    assert native.wait(other.ref, timeout_s=30) == 0


def test_the_state_is_roots_own(native: NativeBackend, run: Run, root: Path) -> None:
    guest = run("sleep", "1000")
    for path in (root / "containers", root / "containers" / guest.ref.id, root / "run" / "containers"):
        assert path.stat().st_mode & 0o077 == 0, path
    for path in (root / "run" / "spawner", root / "run" / "containers" / guest.ref.id / "control"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_spawner_that_dies_when_it_starts_is_not_waited_for(
    native: NativeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = native.create(ContainerSpec("host", ("true",)), R)
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(StartFailed, match="dies when it starts"):
        native.start(guest.ref, R)


@pytest.mark.parametrize("operation", ["start", "run"])
def test_a_spawner_with_other_code_than_its_client_makes_way_for_another(
    native: NativeBackend, run: Run, root: Path, operation: str
) -> None:
    guest = run("true")
    native.wait(guest.ref)
    before = spawner_pid(root)
    with protocol.connect(root / "run" / "spawner", 5.0) as sock:
        protocol.send(sock, {"op": operation, "id": guest.ref.id, "spec": {}, "code": "/elsewhere"})
        assert protocol.receive(sock)[0] == {"stale": True}
    native.start(guest.ref, R)
    assert spawner_pid(root) != before


def test_what_stands_by_for_the_next_run_ends_with_the_spawner(native: NativeBackend, root: Path) -> None:
    guest = native.run(ContainerSpec("host", ("true",), network="none"), R)
    native.wait(guest.ref, timeout_s=30)
    wait_until(lambda: not native._store.is_supervised(guest.ref.id))
    spawner = spawner_pid(root)
    children = Path(f"/proc/{spawner}/task/{spawner}/children")
    standing_by = wait_until(lambda: [int(pid) for pid in children.read_text().split() if is_alive(int(pid))])
    native.shutdown()
    wait_until(lambda: not any(is_alive(pid) for pid in (*standing_by, spawner)))
