"""Snapshots of real guests."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import pytest

from backends.errors import AlreadyExists, NotFound, Unsupported, UsageError
from backends.model import GuestRef, GuestState
from tests.libvirt.conftest import NewVm, Station
from tests.tools.needs import needs
from tests.tools.private_libvirt import PrivateLibvirt
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "libvirt", "virsh"), pytest.mark.timeout(120)]


def shape(station: Station, ref: GuestRef) -> list[tuple[str, str | None, bool]]:
    """Return (name, parent, is current) of all snapshots."""
    return [(one.name, one.parent, one.is_current) for one in station.backend.snapshots(ref)]


def test_snapshots_are_a_tree_that_branches_where_one_went_back(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.ref(machine)
    station.look(machine)
    for name in ("first", "second"):
        station.backend.snapshot_create(ref, name, station.recorder)

    station.backend.snapshot_restore(ref, "first", station.recorder)
    station.backend.snapshot_create(ref, "other", station.recorder)

    assert shape(station, ref)[0] == ("first", None, False)
    assert sorted(shape(station, ref)[1:]) == [("other", "first", True), ("second", "first", False)]
    station.backend.snapshot_remove(ref, "first", station.recorder)
    assert sorted(shape(station, ref)) == [("other", None, True), ("second", None, False)]


def test_a_running_guest_goes_back_to_the_memory_it_had(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.start(machine)
    type_in(station, ref, "word=kept")
    made = station.backend.snapshot_create(ref, "running", station.recorder)
    assert made.with_memory
    assert made.created_s == pytest.approx(time.time(), abs=60)
    type_in(station, ref, "word=lost")

    station.backend.snapshot_restore(ref, "running", station.recorder)

    assert station.look(machine).state is GuestState.RUNNING
    assert "<kept>" in type_in(station, ref, 'echo "<$word>"', until="<kept>")
    assert station.look(machine).pid is not None
    assert station.measure(ref, 0.5).cpu_pct is not None


def type_in(station: Station, ref: GuestRef, line: str, until: str = "# ") -> str:
    """Type a line on the guest's console and return what it printed after it, up to a text."""
    session = station.backend.console(ref)
    try:
        assert session.terminal_fd is not None
        os.set_blocking(session.terminal_fd, False)
        os.write(session.terminal_fd, f"{line}\n".encode())
        seen = bytearray()

        def has_printed() -> bool:
            with suppress(BlockingIOError):
                seen.extend(os.read(session.terminal_fd or 0, 4096))
            return until in seen.decode(errors="replace").partition(line)[2]

        wait_until(has_printed, 20, f"{until!r} after {line!r}")
        return seen.decode(errors="replace").partition(line)[2]
    finally:
        session.close()


def test_a_guest_without_a_disk_that_can_keep_them_has_no_snapshots(station: Station, new_vm: NewVm) -> None:
    machine = new_vm("raw")
    guest = station.look(machine)

    assert "raw" in (station.backend.why_not("snapshot", guest) or "")
    with pytest.raises(Unsupported, match="qcow2"):
        station.backend.snapshot_create(guest.ref, "one", station.recorder)


def test_the_two_kinds_of_snapshot_are_never_mixed(station: Station, new_vm: NewVm, daemon: PrivateLibvirt) -> None:
    machine = new_vm()
    ref = station.start(machine, wait=False)
    daemon.virsh("snapshot-create-as", machine.name, "foreign", "--disk-only")

    assert [one.name for one in station.backend.snapshots(ref)] == ["foreign"]
    with pytest.raises(Unsupported, match="do not mix"):
        station.backend.snapshot_create(ref, "ours", station.recorder)
    for act in (station.backend.snapshot_restore, station.backend.snapshot_remove):
        with pytest.raises(Unsupported, match="external"):
            act(ref, "foreign", station.recorder)


def test_names_are_checked(station: Station, new_vm: NewVm) -> None:
    machine = new_vm()
    ref = station.look(machine).ref
    station.backend.snapshot_create(ref, "one <&> two", station.recorder)

    with pytest.raises(AlreadyExists):
        station.backend.snapshot_create(ref, "one <&> two", station.recorder)
    for name in ("", "a/b", " a", "a\x1b[2J"):
        with pytest.raises(UsageError):
            station.backend.snapshot_create(ref, name, station.recorder)
    with pytest.raises(NotFound):
        station.backend.snapshot_restore(ref, "two", station.recorder)
