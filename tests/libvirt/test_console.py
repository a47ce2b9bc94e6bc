"""The serial console of a real guest, live and as a log."""

from __future__ import annotations

import os
import threading

import pytest

from backends.errors import Busy, WrongState
from tests.libvirt.conftest import NewVm, Station
from tests.libvirt.test_snapshots import type_in
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "libvirt", "virsh"), pytest.mark.timeout(120)]


def test_a_command_typed_on_the_console_is_answered(station: Station, new_vm: NewVm) -> None:
    ref = station.start(new_vm())

    assert "is 42" in type_in(station, ref, "echo is $((6 * 7))", until="is 42")


def test_much_output_comes_whole_and_does_not_stall_the_list(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine)

    printed = type_in(station, ref, "seq 1 3000; echo '<'end'>'", until="<end>")

    assert [str(n) for n in range(1, 3001)] == [line for line in printed.split() if line.isdigit()]
    assert station.look(machine).state.is_live


def test_a_second_console_is_refused_while_one_is_open(station: Station, new_vm: NewVm) -> None:
    ref = station.start(new_vm())
    session = station.backend.console(ref)

    with pytest.raises(Busy, match="console"):
        station.backend.console(ref)

    session.close()
    station.backend.console(ref).close()


def test_the_console_ends_with_its_guest(station: Station, new_vm: NewVm) -> None:
    ref = station.start(new_vm())
    session = station.backend.console(ref)

    station.backend.kill(ref, station.recorder)

    waiter = threading.Thread(target=session.wait, daemon=True)
    waiter.start()
    waiter.join(10)
    assert not waiter.is_alive()
    session.close()
    with pytest.raises(WrongState):
        station.backend.console(ref)


def test_closing_consoles_leaves_no_descriptor_and_no_thread(station: Station, new_vm: NewVm) -> None:
    ref = station.start(new_vm())
    station.backend.console(ref).close()
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()

    for _ in range(5):
        station.backend.console(ref).close()

    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= files, 10, "descriptors are closed")
    assert threading.active_count() <= threads


def test_what_the_guest_printed_is_its_log(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine)
    station.look(machine)

    lines = [line.data for line in station.backend.logs(ref)]

    assert any(b"innkeeper demo: up" in line for line in lines)
    assert [line.data for line in station.backend.logs(ref, tail=1)] == lines[-1:]
    assert list(station.backend.logs(ref, tail=0)) == []


def test_following_a_log_ends_with_the_guest(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine)
    station.look(machine)
    followed: list[bytes] = []
    reader = threading.Thread(
        target=lambda: followed.extend(line.data for line in station.backend.logs(ref, follow=True)), daemon=True
    )
    reader.start()

    station.backend.stop(ref, station.recorder)
    station.backend.guests()

    reader.join(20)
    assert not reader.is_alive()
    assert any(b"the power button was pressed" in line for line in followed)
