"""A libvirtd that dies, hangs and comes back, and a QEMU that hangs."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from backends.errors import BackendUnavailable, InnkeeperError
from backends.libvirt.link import stuck_threads
from backends.model import GuestState
from tests.libvirt.conftest import NewVm, Station
from tests.tools.needs import needs
from tests.tools.private_libvirt import PrivateLibvirt
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "libvirt", "virsh"), pytest.mark.timeout(180)]


def is_unavailable(station: Station) -> bool:
    """True if the list cannot be read now."""
    try:
        station.backend.guests()
    except BackendUnavailable:
        return True
    return False


def test_a_libvirtd_that_was_killed_is_told_and_found_again(
    station: Station, new_vm: NewVm, daemon: PrivateLibvirt
) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)
    pid = station.look(machine).pid

    daemon.kill()
    try:
        wait_until(lambda: is_unavailable(station), 10, "libvirtd is missed")
        with pytest.raises(BackendUnavailable):
            station.backend.sample()
        station.backend.close()
        with pytest.raises(BackendUnavailable):
            station.backend.open(station.events.append)
    finally:
        daemon.start()

    station.backend.open(station.events.append)
    guest = station.look(machine)
    assert (guest.state, guest.pid) == (GuestState.RUNNING, pid)
    station.events.clear()
    daemon.virsh("suspend", machine.name)
    wait_until(lambda: station.events, 5, "events come again")
    assert ref in station.backend.sample()


def test_a_libvirtd_that_hangs_holds_nobody_up_longer_than_the_bound(
    station: Station, new_vm: NewVm, daemon: PrivateLibvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = new_vm()
    station.start(machine, wait=False)
    station.look(machine)
    monkeypatch.setattr("backends.libvirt.host.POLL_TIMEOUT_S", 0.5)

    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        for read in (station.backend.guests, station.backend.sample):
            began = time.monotonic()
            with pytest.raises(BackendUnavailable, match="did not answer"):
                read()
            assert time.monotonic() - began < 5
        assert stuck_threads() == 2
    finally:
        os.kill(daemon.pid, signal.SIGCONT)

    wait_until(lambda: stuck_threads() == 0, 30, "the stuck calls return")
    monkeypatch.undo()
    assert wait_until(lambda: not is_unavailable(station), 10)
    assert station.look(machine).state is GuestState.RUNNING


def test_a_qemu_that_hangs_holds_up_neither_the_list_nor_the_samples(station: Station, new_vm: NewVm) -> None:
    hung, healthy = new_vm(), new_vm()
    for machine in (hung, healthy):
        station.start(machine, wait=False)
    pid = station.look(hung).pid
    assert pid is not None
    failures: list[InnkeeperError] = []

    def pause() -> None:
        try:
            station.backend.pause(station.ref(hung), station.recorder)
        except InnkeeperError as error:
            failures.append(error)

    os.kill(pid, signal.SIGSTOP)
    try:
        stuck = threading.Thread(target=pause, daemon=True)
        stuck.start()
        for _ in range(20):
            began = time.monotonic()
            assert {station.ref(hung), station.ref(healthy)} <= set(station.backend.sample())
            assert station.look(healthy).state is GuestState.RUNNING
            assert time.monotonic() - began < 5
        station.backend.pause(station.ref(healthy), station.recorder)
        assert station.look(healthy).state is GuestState.PAUSED
        assert stuck.is_alive()

        station.backend.kill(station.ref(hung), station.recorder)

        stuck.join(40)
        assert not stuck.is_alive()
        assert failures
        assert station.look(hung).state is GuestState.STOPPED
    finally:
        if os.path.exists(f"/proc/{pid}"):
            os.kill(pid, signal.SIGCONT)


def test_opening_and_closing_many_times_leaves_no_thread_and_no_descriptor(station: Station) -> None:
    station.backend.guests()
    station.backend.close()
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()

    for _ in range(10):
        station.backend.open()
        station.backend.guests()
        station.backend.close()

    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= files, 10, "descriptors are closed")
    wait_until(lambda: threading.active_count() <= threads, 10, "threads end")
