"""Processes to disk and back through CRIU, where it works; and what is said where it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backends.container import CheckpointOptions, ContainerSpec, RestartPolicy
from backends.errors import NotFound, Unsupported, WrongState
from backends.model import Guest, GuestState
from backends.native.backend import NativeBackend
from backends.oci import criu
from backends.trace import Recorder
from tests.tools.containers import log_of, now
from tests.tools.needs import facility, needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(60)]
Run = Callable[..., Guest]
R = Recorder("test")
PLAIN = CheckpointOptions()
COUNT = ("sh", "-c", "i=0; echo begin; while :; do i=$((i+1)); echo $i; sleep 0.05; done")


@facility("criu")
def _criu(_: str) -> str:
    return criu.why_not()


def numbers(native: NativeBackend, guest: Guest) -> list[int]:
    return [int(line) for line in log_of(native, guest).splitlines() if line.isdigit()]


@pytest.mark.skipif(not criu.why_not(), reason="CRIU works here")
def test_where_criu_cannot_its_own_words_are_the_reason_and_the_container_goes_on(
    native: NativeBackend, run: Run
) -> None:
    guest = run("sleep", "1000")
    with pytest.raises(Unsupported, match=r"cannot checkpoint .*: CRIU ") as caught:
        native.checkpoint(guest.ref, PLAIN, R)
    assert caught.value.hint
    assert now(native, guest).state is GuestState.RUNNING
    with pytest.raises(Unsupported):
        native.restore(guest.ref, PLAIN, R)


@needs("criu")
def test_a_program_goes_on_where_it_was(native: NativeBackend, run: Run, output_of: Callable[..., str]) -> None:
    guest = run(*COUNT, restart=RestartPolicy("always"), memory_bytes=64 * 1024**2)
    before = wait_until(lambda: found if len(found := numbers(native, guest)) > 5 else None)
    native.checkpoint(guest.ref, PLAIN, R)
    ended = now(native, guest)
    assert (ended.state, ended.note) == (GuestState.STOPPED, "its processes are in a checkpoint")

    native.restore(guest.ref, PLAIN, R)

    wait_until(lambda: len(numbers(native, guest)) > len(before) + 20)
    there = numbers(native, guest)
    assert there == list(range(1, len(there) + 1))
    assert log_of(native, guest).count("begin") == 1
    assert now(native, guest).addresses == guest.addresses
    assert guest.addresses[0] in output_of(guest, "cat /proc/net/fib_trie")
    assert native.sample()[guest.ref].memory_limit_bytes == 64 * 1024**2
    assert "Seccomp:\t2" in output_of(guest, "cat /proc/1/status")
    native.stop(guest.ref, R, timeout_s=0)
    assert now(native, guest).state is GuestState.STOPPED
    native.start(guest.ref, R)
    wait_until(lambda: log_of(native, guest).count("begin") == 2)


@needs("criu")
def test_one_can_go_on_beside_its_checkpoint_and_be_taken_back_to_it_often(
    native: NativeBackend, run: Run, tmp_path: Path
) -> None:
    guest, options = run(*COUNT, network="none"), CheckpointOptions(str(tmp_path / "image"), leave_running=True)
    wait_until(lambda: numbers(native, guest))
    native.checkpoint(guest.ref, options, R)
    assert now(native, guest).state is GuestState.RUNNING
    for _ in range(2):
        with pytest.raises(WrongState):
            native.restore(guest.ref, options, R)
        native.stop(guest.ref, R, timeout_s=0)
        native.clear_log(guest.ref, R)
        native.restore(guest.ref, options, R)
        wait_until(lambda: len(numbers(native, guest)) > 2)
        assert "begin" not in log_of(native, guest)


@needs("criu")
def test_what_cannot_be_brought_back_is_not_written(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000", terminal=True)
    with pytest.raises(Unsupported, match="terminal"):
        native.checkpoint(guest.ref, PLAIN, R)
    fresh = native.create(ContainerSpec("host", ("true",)), R)
    with pytest.raises(NotFound, match="no checkpoint"):
        native.restore(fresh.ref, PLAIN, R)
    with pytest.raises(WrongState):
        native.checkpoint(fresh.ref, PLAIN, R)
