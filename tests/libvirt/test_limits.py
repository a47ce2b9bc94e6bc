"""Limits that bite in real guests, and go back when one of several fails."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from backends.errors import InnkeeperError, Unsupported, UsageError
from backends.libvirt.domain_xml import read_domain
from backends.model import DeviceIo
from tests.libvirt.conftest import NewVm, Station
from tests.tools.needs import needs
from tests.tools.private_libvirt import Machine, PrivateLibvirt
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "libvirt", "virsh"), pytest.mark.timeout(180)]


def has_sfq() -> bool:
    """True if this kernel has the queueing that libvirt limits networks with."""
    subprocess.run(["ip", "tuntap", "add", "inn-sfq", "mode", "tap"], check=True)
    try:
        done = subprocess.run(["tc", "qdisc", "add", "dev", "inn-sfq", "root", "sfq"], capture_output=True)
        return done.returncode == 0
    finally:
        subprocess.run(["ip", "tuntap", "del", "inn-sfq", "mode", "tap"], check=True)


def queueing(tap: str) -> str:
    """Return what tc shows of a link."""
    return subprocess.run(["tc", "qdisc", "show", "dev", tap], capture_output=True, text=True, check=True).stdout


def near(measure: Callable[[], float | None], wanted: float) -> Callable[[], bool]:
    """Return a condition: measured within 10 % of what is wanted."""
    return lambda: abs((measure() or 0.0) - wanted) <= 0.1 * wanted


@pytest.mark.parametrize("vcpus", [1, 2])
def test_the_measured_cpu_follows_the_quota(station: Station, new_vm: NewVm, vcpus: int) -> None:
    machine = new_vm(vcpus=vcpus, load="cpu")  # one busy program, also where there are two vCPUs
    ref = station.start(machine)

    for cpus in (0.2, 0.6):
        assert station.backend.set_limits(ref, {"cpus": cpus}, station.recorder).cpus == cpus
        wait_until(near(lambda: station.measure(ref).cpu_pct, 100 * cpus), 40, f"{cpus} CPUs")
        assert (station.measure(ref).cpu_throttled_pct or 0) > 20

    assert station.backend.set_limits(ref, {"cpus": None}, station.recorder).cpus is None
    wait_until(lambda: (station.measure(ref).cpu_pct or 0) > 75, 40, "no limit")


def test_a_quota_that_libvirt_keeps_for_each_vcpu_is_read_over_all_and_lifted(
    station: Station, new_vm: NewVm, daemon: PrivateLibvirt
) -> None:
    machine = new_vm(vcpus=2)
    ref = station.start(machine, wait=False)
    daemon.virsh("schedinfo", machine.name, "--live", "--set", "vcpu_quota=30000", "--set", "vcpu_period=100000")

    assert station.backend.limits(ref).cpus == 0.6
    assert station.backend.set_limits(ref, {"cpus": 1.5}, station.recorder).cpus == 1.5
    assert "vcpu_quota     : -1" in daemon.virsh("schedinfo", machine.name) or (
        "vcpu_quota     : 18446744073709551" in daemon.virsh("schedinfo", machine.name)
    )


def test_weight_and_cpuset_are_set_read_back_and_lifted(station: Station, new_vm: NewVm) -> None:
    machine = new_vm(vcpus=2)
    ref = station.start(machine, wait=False)

    limits = station.backend.set_limits(ref, {"cpu_weight": 250, "cpuset": "0"}, station.recorder)

    assert (limits.cpu_weight, limits.cpuset) == (250, "0")
    assert allowed_cpus(station.look(machine).pid) == {0}
    limits = station.backend.set_limits(ref, {"cpu_weight": None, "cpuset": None}, station.recorder)
    assert (limits.cpu_weight, limits.cpuset) == (None, None)
    assert allowed_cpus(station.look(machine).pid) == os.sched_getaffinity(0)


def allowed_cpus(pid: int | None) -> set[int]:
    """Return the CPUs that a QEMU's vCPU threads may run on."""
    found: set[int] = set()
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm") as name:
            if name.read().startswith("CPU "):
                found |= os.sched_getaffinity(int(thread))
    return found


def test_a_disk_is_throttled(station: Station, new_vm: NewVm) -> None:
    machine = new_vm(load="disk")
    ref = station.start(machine)
    wait_until(lambda: (station.measure(ref).io_write_bytes_per_s or 0) > 3 * 1024**2, 40, "a fast disk")

    limits = station.backend.set_limits(ref, {"io_write_bytes_per_s": 1024**2}, station.recorder)

    assert limits.io_write_bytes_per_s == 1024**2
    wait_until(near(lambda: station.measure(ref, 3).io_write_bytes_per_s, 1024**2), 60, "1 MiB/s")
    station.backend.set_limits(ref, {"io_write_bytes_per_s": None}, station.recorder)
    wait_until(lambda: (station.measure(ref).io_write_bytes_per_s or 0) > 3 * 1024**2, 40, "a fast disk again")


def test_a_named_disk_wins_over_all(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)

    limits = station.backend.set_limits(
        ref, {"io_devices": (DeviceIo("vda", read_ops_per_s=100),), "io_read_ops_per_s": 50}, station.recorder
    )

    assert limits.io_read_ops_per_s == 100
    with pytest.raises(UsageError, match="no disk 'sdz'"):
        station.backend.set_limits(ref, {"io_devices": (DeviceIo("sdz", read_ops_per_s=1),)}, station.recorder)


def test_the_balloon_takes_memory_from_the_guest_and_gives_it_back(station: Station, new_vm: NewVm) -> None:
    machine = new_vm(memory_mib=192)
    ref = station.start(machine)

    station.backend.set_limits(ref, {"memory_bytes": 128 * 1024**2}, station.recorder)

    wait_until(lambda: station.backend.limits(ref).memory_bytes == 128 * 1024**2, 20, "a balloon of 64 MiB")
    station.backend.guests()
    assert station.backend.sample()[ref].memory_limit_bytes == 128 * 1024**2
    station.backend.set_limits(ref, {"memory_bytes": None}, station.recorder)
    wait_until(lambda: station.backend.limits(ref).memory_bytes is None, 20, "an empty balloon")


def test_more_memory_than_it_was_built_with_is_refused(station: Station, new_vm: NewVm) -> None:
    ref = station.start(new_vm(memory_mib=192), wait=False)

    with pytest.raises(UsageError, match="built with 192 MiB"):
        station.backend.set_limits(ref, {"memory_bytes": 1024**3}, station.recorder)


def test_limits_are_for_later_starts_too(station: Station, new_vm: NewVm, daemon: PrivateLibvirt) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)
    station.backend.set_limits(ref, {"cpus": 0.5, "io_read_bytes_per_s": 2048}, station.recorder)

    station.backend.kill(ref, station.recorder)

    for limits in (station.backend.limits(ref), read_domain(daemon.virsh("dumpxml", machine.name)).limits):
        assert (limits.cpus, limits.io_read_bytes_per_s) == (0.5, 2048)


def test_a_limit_that_virsh_sets_is_seen(station: Station, new_vm: NewVm, daemon: PrivateLibvirt) -> None:
    machine = new_vm()
    station.start(machine, wait=False)
    station.look(machine)

    daemon.virsh("blkdeviotune", machine.name, "vda", "--live", "--total-bytes-sec", "5000")

    wait_until(lambda: station.look(machine).limits.io_read_bytes_per_s == 5000, 5, "the limit in the list")


def test_when_a_later_limit_fails_the_earlier_ones_are_taken_back(
    station: Station, new_vm: NewVm, daemon: PrivateLibvirt
) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)
    before = station.backend.limits(ref)

    with pytest.raises(UsageError):
        station.backend.set_limits(ref, {"cpus": 0.5, "cpuset": "0-4095"}, station.recorder)
    assert station.backend.limits(ref) == before

    with pytest.raises(InnkeeperError, match="limit disk vda"):  # libvirt takes no more than a signed 64-bit value
        station.backend.set_limits(ref, {"cpus": 0.5, "io_read_bytes_per_s": 2**62}, station.recorder)

    assert station.backend.limits(ref) == before
    assert [record.text.split(",")[0] for record in station.backend.trace(ref)][-2:] == [
        "take back", "take back"
    ]  # fmt: skip


def test_a_network_is_limited_or_the_kernels_reason_is_told_and_the_tap_left_clean(
    station: Station, new_vm: NewVm
) -> None:
    machine = new_vm(has_network=True)
    ref = station.start(machine, wait=False)
    station.look(machine)
    tap = station.backend.inspect(ref)["interfaces"][0]["target"]
    before = queueing(tap)
    changes = {"net_rx_bytes_per_s": 100 * 1024, "net_tx_bytes_per_s": 50 * 1024}

    if has_sfq():
        limits = station.backend.set_limits(ref, changes, station.recorder)
        assert (limits.net_rx_bytes_per_s, limits.net_tx_bytes_per_s) == (100 * 1024, 50 * 1024)
        assert "htb" in queueing(tap)
        station.backend.set_limits(ref, dict.fromkeys(changes), station.recorder)
    else:
        with pytest.raises(InnkeeperError, match="sfq"):
            station.backend.set_limits(ref, changes, station.recorder)
        assert station.backend.limit_fields(station.look(machine))["net_rx_bytes_per_s"]
    assert "htb" not in queueing(tap), before
    assert station.backend.limits(ref).net_rx_bytes_per_s is None


def test_what_a_vm_has_not_is_refused_with_the_reason(station: Station, new_vm: NewVm) -> None:
    machine: Machine = new_vm(has_network=False)
    ref, guest = station.ref(machine), station.look(machine)

    fields = station.backend.limit_fields(guest)

    assert fields["cpus"] == fields["memory_bytes"] == fields["io_read_bytes_per_s"] == ""
    assert "network card" in fields["net_rx_bytes_per_s"]
    with pytest.raises(Unsupported, match="its own kernel"):
        station.backend.set_limits(ref, {"pids": 10}, station.recorder)


def test_what_would_hurt_is_told_before(station: Station, new_vm: NewVm) -> None:
    guest = station.look(new_vm(memory_mib=192))

    assert station.backend.limit_warnings(guest, {"memory_bytes": 16 * 1024**2, "cpus": 8.0}, None)
    assert not station.backend.limit_warnings(guest, {"cpus": 0.5}, None)
