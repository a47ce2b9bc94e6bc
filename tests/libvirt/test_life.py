"""The life of real guests of a real libvirtd."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from backends.errors import AlreadyExists, InnkeeperError, NotFound, TimedOut, Unsupported, WrongState
from backends.events import GuestsDirty
from backends.model import GuestState
from tests.libvirt.conftest import NewVm, Station
from tests.tools.needs import needs
from tests.tools.private_libvirt import PrivateLibvirt
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "libvirt", "virsh"), pytest.mark.timeout(120)]


def test_a_defined_guest_is_listed_as_stopped_with_what_it_was_built_with(station: Station, new_vm: NewVm) -> None:
    guest = station.look(new_vm(vcpus=2, memory_mib=160))

    assert guest.state is GuestState.STOPPED
    assert (guest.cpu_count, guest.memory_total_bytes) == (2, 160 * 1024**2)
    assert guest.image == "vmlinuz"
    assert guest.pid is None
    assert guest.labels["innkeeper"] == "demo"


def test_a_started_guest_runs_as_a_qemu_of_this_host(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)
    guest = station.look(machine)

    assert guest.state is GuestState.RUNNING
    assert guest.pid is not None
    assert machine.uuid in Path(f"/proc/{guest.pid}/cmdline").read_text()
    assert [one.pid for one in station.backend.processes(ref)] == [guest.pid]
    assert guest.started_s is not None


def test_a_guest_started_by_virsh_appears_at_once(station: Station, new_vm: NewVm, daemon: PrivateLibvirt) -> None:
    machine = new_vm()
    assert station.look(machine).state is GuestState.STOPPED
    station.events.clear()

    daemon.virsh("start", machine.name)

    wait_until(lambda: GuestsDirty("libvirt") in station.events, 5, "an event")
    assert station.look(machine).state is GuestState.RUNNING


def test_a_guest_defined_and_undefined_by_virsh_comes_and_goes(
    station: Station, new_vm: NewVm, daemon: PrivateLibvirt
) -> None:
    machine = new_vm()
    wait_until(lambda: station.events, 5, "an event of the definition")
    assert station.look(machine).name == machine.name
    station.events.clear()

    daemon.virsh("undefine", machine.name)

    wait_until(lambda: station.events, 5, "an event")
    assert machine.uuid not in {guest.ref.id for guest in station.backend.guests()}


def test_the_power_button_shuts_a_guest_down(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine)

    station.backend.stop(ref, station.recorder)

    assert station.look(machine).state is GuestState.STOPPED
    assert "the power button was pressed" in machine.console_log.read_text()
    assert station.backend.wait(ref, timeout_s=1) is None


def test_a_guest_that_ignores_its_power_button_is_not_forced_off_unasked(
    station: Station, new_vm: NewVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)  # a guest that still boots hears no button
    monkeypatch.setattr("backends.libvirt.lifecycle.SHUTDOWN_TIMEOUT_S", 0.5)

    with pytest.raises(TimedOut, match="did not shut down") as caught:
        station.backend.stop(ref, station.recorder)

    assert "force" in caught.value.hint
    assert station.look(machine).state.is_live


def test_a_stop_with_a_timeout_forces_it_off_after_that(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)

    station.backend.stop(ref, station.recorder, timeout_s=0.3)

    assert station.look(machine).state is GuestState.STOPPED
    assert station.look(machine).note == "forced off"


def test_a_paused_guest_is_not_asked_to_shut_down(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)
    station.backend.pause(ref, station.recorder)

    with pytest.raises(WrongState, match="paused"):
        station.backend.stop(ref, station.recorder)

    assert station.look(machine).state is GuestState.PAUSED
    station.backend.stop(ref, station.recorder, timeout_s=1)
    assert station.look(machine).state is GuestState.STOPPED


def test_a_pause_stops_the_guests_cpu(station: Station, new_vm: NewVm) -> None:
    machine = new_vm(load="cpu")
    ref = station.start(machine)
    wait_until(lambda: (station.measure(ref, 0.5).cpu_pct or 0) > 30, 20, "a busy guest")

    station.backend.pause(ref, station.recorder)

    assert station.look(machine).state is GuestState.PAUSED
    assert (station.measure(ref, 0.5).cpu_pct or 0) < 10
    station.backend.resume(ref, station.recorder)
    assert station.look(machine).state is GuestState.RUNNING
    wait_until(lambda: (station.measure(ref, 0.5).cpu_pct or 0) > 30, 20, "a busy guest again")


def test_a_reboot_boots_the_guest_again(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine)
    before = station.look(machine).pid

    station.backend.restart(ref, station.recorder)

    wait_until(lambda: machine.console_log.read_text().count("innkeeper demo: up") == 2, 60, "a second boot")
    assert station.look(machine).pid == before


def test_killing_forces_it_off_and_other_signals_are_refused(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)

    with pytest.raises(Unsupported, match="signal 15"):
        station.backend.kill(ref, station.recorder, signal=15)
    station.backend.kill(ref, station.recorder)

    assert station.look(machine).state is GuestState.STOPPED


def test_waiting_ends_when_the_guest_does(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)
    with pytest.raises(TimedOut):
        station.backend.wait(ref, timeout_s=0.1)
    waiter = threading.Thread(target=lambda: station.backend.wait(ref, timeout_s=60), daemon=True)
    waiter.start()

    station.backend.kill(ref, station.recorder)

    waiter.join(10)
    assert not waiter.is_alive()


def test_only_a_stopped_guest_is_renamed_and_only_to_a_free_name(station: Station, new_vm: NewVm) -> None:
    machine, other = new_vm(), new_vm()
    ref = station.start(machine, wait=False)
    with pytest.raises(WrongState):
        station.backend.rename(ref, "inn-test-other", station.recorder)
    station.backend.kill(ref, station.recorder)
    with pytest.raises(AlreadyExists):
        station.backend.rename(ref, other.name, station.recorder)

    station.backend.rename(ref, f"{machine.name}-b", station.recorder)

    assert station.look(machine).name == f"{machine.name}-b"


def test_removing_keeps_the_disk(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)
    with pytest.raises(WrongState):
        station.backend.remove(ref, station.recorder)

    station.backend.remove(ref, station.recorder, force=True)

    assert ref not in {guest.ref for guest in station.backend.guests()}
    assert machine.disk.exists()
    assert str(machine.disk) in station.recorder.records[-1].text


def test_a_guest_that_is_not_there_is_not_found(station: Station, new_vm: NewVm) -> None:
    ref = station.ref(new_vm())
    station.backend.remove(ref, station.recorder)

    for act in (station.backend.inspect, station.backend.limits, station.backend.snapshots, station.backend.console):
        with pytest.raises(NotFound):
            act(ref)


def test_each_call_is_recorded_with_the_virsh_line_that_does_the_same(
    station: Station, new_vm: NewVm, daemon: PrivateLibvirt
) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)
    station.backend.kill(ref, station.recorder)

    started, killed = station.backend.trace(ref)

    assert (started.sequence, started.kind, started.by_hand) == (1, "libvirt", f"virsh start {machine.name}")
    daemon.virsh(*started.by_hand.split()[1:])
    daemon.virsh(*killed.by_hand.split()[1:])


def test_a_failed_call_is_recorded_with_what_libvirt_said(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    machine.disk.unlink()

    with pytest.raises(InnkeeperError, match="No such file"):
        station.start(machine)

    assert "No such file" in station.backend.trace(station.ref(machine))[-1].error


def test_a_guest_is_inspected_with_its_cgroups_qemu_and_definition(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)

    told = station.backend.inspect(ref)

    assert told["state"]["status"] == "running"
    assert told["state"]["exit_code"] is None
    assert "oom_kills" in told["state"]
    assert told["domain"]["devices"]["disk"]["driver"]["@type"] == "qcow2"
    assert machine.uuid in told["qemu_command"]
    assert all(os.path.isdir(folder) for folder in told["cgroups"])
    assert told["cgroups"]
    assert told["xml"].startswith("<domain")
