"""After many lives nothing is left: no mount, link, cgroup, process, descriptor or folder."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest

from backends.container import ContainerSpec
from backends.errors import InnkeeperError
from backends.native import protocol
from backends.native.backend import NativeBackend
from backends.native.network import bridge_name
from backends.trace import Recorder
from tests.tools.needs import needs

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(900)]
R = Recorder("test")
IS_SLOW = "INNKEEPER_UML" in os.environ
ROUNDS, FAILURES = (20, 8) if IS_SLOW else (200, 30)
"""User-mode Linux takes two thirds of a second for each."""


def traces(native: NativeBackend, root: Path) -> dict[str, list[str]]:
    """Return all that a life of a container could leave on this host."""
    parents = parent_folders(native)
    kept = ("containers", "names", "leases", "snapshots")
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    processes = [path.name for path in Path("/proc").iterdir() if path.name.isdigit() and _mentions(path, root)]
    return {
        "mounts": sorted(mounts),
        "links": links_of(root),
        "cgroups": sorted(str(group) for folder in parents for group in folder.rglob("*") if group.is_dir()),
        "processes": sorted(processes),
        "descriptors": sorted(_targets()),
        "folders": sorted(str(path) for path in root.rglob("*") if path.parent.name in kept),
    }


def links_of(root: Path) -> list[str]:
    """Return the bridge of this state folder and what hangs on it; other programs' links come and go."""
    bridge = bridge_name(root, is_default=False)
    folder = Path("/sys/class/net") / bridge
    return [bridge, *sorted(os.listdir(folder / "brif"))] if folder.exists() else []


def parent_folders(native: NativeBackend) -> list[Path]:
    """Return the folders of the cgroup that all containers of this state folder are in."""
    guest = native.create(ContainerSpec("host", ("true",)), R)
    folders = [Path(folder).parent for folder in native.inspect(guest.ref)["cgroup"]["folders"]]
    native.remove(guest.ref, R)
    return [folder for folder in folders if folder.exists()]


def _mentions(process: Path, root: Path) -> bool:
    try:
        return str(root).encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False


def _targets() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}").split(":")[0])
        except OSError:
            continue
    return found


def test_after_many_lives_nothing_is_left(native: NativeBackend, root: Path) -> None:
    def life(number: int) -> None:
        guest = native.create(ContainerSpec("host", ("sleep", "1000")), R)
        native.start(guest.ref, R)
        native.guests()
        native.sample()
        if number % 2:
            native.stop(guest.ref, R, timeout_s=0)
            native.remove(guest.ref, R)
        else:
            native.remove(guest.ref, R, force=True)
        native.guests()
        native.sample()

    life(0)
    before = traces(native, root)
    for number in range(ROUNDS):
        life(number)
    assert traces(native, root) == before
    assert native.clean(R) == []


def test_failed_starts_leave_nothing_either(native: NativeBackend, root: Path) -> None:
    def failure() -> None:
        guest = native.create(ContainerSpec("host", ("no-such-program",)), R)
        with pytest.raises(InnkeeperError):
            native.start(guest.ref, R)
        native.remove(guest.ref, R)

    failure()
    before = traces(native, root)
    for _ in range(FAILURES):
        failure()
    assert traces(native, root) == before


def test_when_all_is_shut_down_no_process_cgroup_or_link_of_ours_is_there(native: NativeBackend, root: Path) -> None:
    guest = native.create(ContainerSpec("host", ("sleep", "1000")), R)
    native.start(guest.ref, R)
    native.remove(guest.ref, R, force=True)
    native.shutdown()
    found = traces(native, root)
    assert found["processes"] == []
    assert found["cgroups"] == []
    assert parent_folders(native) == []
    assert found["links"] == []


def test_a_spawner_that_was_killed_leaves_no_cgroup_either(native: NativeBackend, root: Path) -> None:
    guest = native.create(ContainerSpec("host", ("sleep", "1000")), R)
    native.start(guest.ref, R)
    with protocol.connect(root / "run" / "spawner", 5.0) as sock:
        pid = protocol.peer_pid(sock)
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    select.select([pidfd], [], [], 10.0)
    os.close(pidfd)
    native.remove(guest.ref, R, force=True)
    native.shutdown()
    assert parent_folders(native) == []
