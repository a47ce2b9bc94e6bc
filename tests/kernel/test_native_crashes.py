"""SIGKILL at any moment, to any of our processes: `ps` tells the truth, and `clean` mends all."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from backends.container import ContainerSpec
from backends.errors import InnkeeperError, NotFound, WrongState
from backends.model import Guest, GuestState
from backends.native.backend import NativeBackend
from backends.native.network import bridge_name
from backends.network import NetworkSpec
from backends.trace import Recorder
from tests.tools.containers import now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

Run = Callable[..., Guest]
R = Recorder("test")

CHECKOUT = Path(__file__).resolve().parents[2]
ROUNDS, LONGEST_S = (16, 3.0) if "INNKEEPER_UML" in os.environ else (40, 0.8)
ROUNDS = int(os.environ.get("INNKEEPER_ROUNDS", ROUNDS))
"""A verb of the command line takes less than the longest; some rounds kill nothing then, which is a moment too."""
pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(600 + ROUNDS * 10)]


def our_processes(root: Path) -> dict[int, str]:
    """Return the spawner and supervisors of a state folder: all of them have its path in their command line."""
    found = {}
    for path in Path("/proc").iterdir():
        with suppress(OSError):
            if path.name.isdigit() and str(root).encode() in (path / "cmdline").read_bytes():
                found[int(path.name)] = (path / "comm").read_text().strip()
    return {pid: name for pid, name in found.items() if name.startswith("inn")}


def kill_one(root: Path, chooser: random.Random) -> None:
    """Kill a spawner or a supervisor, if there is one."""
    processes = sorted(our_processes(root))
    if processes:
        with suppress(ProcessLookupError):
            os.kill(chooser.choice(processes), signal.SIGKILL)


def kill_supervisor(root: Path, wanted: str) -> None:
    """Kill a supervisor by its name and wait until it is gone."""
    for pid in [pid for pid, name in our_processes(root).items() if name == wanted]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: wanted not in our_processes(root).values())


def inn(root: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a verb of the command line in a session of its own."""
    command = [sys.executable, str(CHECKOUT / "innkeeper.py"), "--root", str(root), "--backend", "native", *words]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def verbs(chooser: random.Random, names: list[str]) -> tuple[str, ...]:
    """Return a verb on a container that may or may not be there."""
    name, other = chooser.choice(names), f"n{chooser.randrange(1000)}"
    return chooser.choice(
        [
            ("run", "-d", "--name", other, "host", "sleep", "1000"),
            ("run", "-d", "--rm", "--name", other, "host", "sleep", "0.2"),
            (
                "run",
                "-d",
                "--network",
                "net",
                "--network",
                "bridge",
                "-p",
                "80",
                "--name",
                other,
                "host",
                "sleep",
                "1000",
            ),
            ("network", "connect", "net", name),
            ("network", "disconnect", "net", name),
            ("create", "--name", other, "host", "sleep", "1000"),
            ("start", name),
            ("stop", "-t", "0.1", name),
            ("restart", "-t", "0.1", name),
            ("kill", name),
            ("pause", name),
            ("resume", name),
            ("exec", name, "sh", "-c", "dd if=/dev/urandom of=/root/f bs=1M count=5 2>/dev/null"),
            ("snapshot", "create", name, other),
            ("snapshot", "restore", name, "base"),
            ("snapshot", "rm", name, "base"),
            ("clone", name, other),
            ("clone", "--snapshot", "base", name, other),
            ("template", "create", name, other),
            ("rename", name, other),
            ("rm", "-f", name),
        ]
    )


def groups_of(native: NativeBackend, container_id: str) -> list[Path]:
    """Return the folders of a container's cgroup that are there."""
    return [Path(path) for path in native._group(container_id).directories.values() if Path(path).exists()]


def assert_true(native: NativeBackend) -> None:
    """Hold what is listed against the kernel: what lives has its process, what does not has none."""
    wait_until(lambda: not untrue(native), timeout_s=20, what="; ".join(untrue(native)))


def untrue(native: NativeBackend) -> list[str]:
    """Return what the list says and the kernel does not, at this moment: the end of one takes some milliseconds."""
    found = []
    for guest in native.guests():
        pids = native._group(guest.ref.id).procs()
        fits = guest.pid in pids if guest.state.is_live else not pids or guest.state is GuestState.LOST
        if not fits:
            found.append(f"{guest.name} is listed as {guest.state} with {guest.pid}, and has {pids}")
    return found


@pytest.fixture
def names(native: NativeBackend, run: Run) -> list[str]:
    """Three running containers with a snapshot each, and a network."""
    native.network_create(NetworkSpec("net", ipv6=True), R)
    guests = [run("sh", "-c", "while :; do date; sleep 0.02; done", name=f"c{number}") for number in range(3)]
    for guest in guests:
        native.snapshot_create(guest.ref, "base", R)
    return [guest.name for guest in guests]


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Client processes, all of them gone afterwards."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_killed_whenever_the_list_is_true_and_clean_mends_all(
    native: NativeBackend, root: Path, names: list[str], seed: int, children: list[subprocess.Popen[bytes]]
) -> None:
    chooser = random.Random(seed)
    done = []
    for _ in range(ROUNDS // 2):
        names = [guest.name for guest in native.guests()] or ["none"]
        verb = verbs(chooser, names)
        victim = chooser.choice(["client", "client", "helper", "both"])
        child = inn(root, *verb)
        children.append(child)
        # A random moment, not a wait for anything.
        time.sleep(chooser.uniform(0.02, LONGEST_S))
        if victim in ("client", "both"):
            child.kill()
        if victim in ("helper", "both"):
            kill_one(root, chooser)
        output = child.communicate(timeout=60)[0].decode("utf-8", "replace")
        done.append(f"{victim}: {' '.join(verb)}: {output.strip()[-200:]}")
        assert "Traceback" not in output, "\n".join(done)
        assert_true(native)
    wait_until(lambda: mended(native), timeout_s=60, what="\n".join(done))
    assert_true(native)
    live = [guest for guest in native.guests() if guest.state.is_live]
    assert all(guest.state in (GuestState.RUNNING, GuestState.PAUSED) for guest in live), "\n".join(done)
    assert_whole(native, root)
    for guest in native.guests():
        with suppress(NotFound):  # one of --rm is just removing itself
            native.remove(guest.ref, R, force=True)
    assert native.clean(R) in ([], [f"bridge {bridge_name(root, is_default=False)}: nothing hangs on it"])


def test_clean_removes_what_a_killed_supervisor_was_to_remove_at_its_end(
    native: NativeBackend, run: Run, root: Path
) -> None:
    guest = run("sleep", "1000", name="brief", auto_remove=True)
    kill_supervisor(root, "inn:brief")
    wait_until(lambda: now(native, guest).state is GuestState.STOPPED)
    assert native.clean(R) == ["container brief: it was to be removed at its end"]
    assert native.guests() == []


def test_clean_removes_the_cgroup_of_a_container_that_does_not_run(native: NativeBackend) -> None:
    guest = native.create(ContainerSpec("host", ("true",), name="made"), R)
    group = native._group(guest.ref.id)
    for step in group.create_steps():
        step.run()
    assert native.clean(R) == [f"cgroup {group.path}: its container does not run"]
    assert not groups_of(native, guest.ref.id)


def is_gone(native: NativeBackend, guest: Guest) -> bool:
    """True once the list has it no more."""
    return guest.ref not in [each.ref for each in native.guests()]


def mended(native: NativeBackend) -> bool:
    """True once nothing is lost, and a second clean finds nothing; what still ends by itself needs a moment."""
    native.clean(R)
    states = [guest.state for guest in native.guests()]
    return GuestState.LOST not in states and GuestState.STOPPING not in states and native.clean(R) == []


def assert_whole(native: NativeBackend, root: Path) -> None:
    """Names, leases, folders and cgroups are those of the containers in the list, each of which works."""
    guests = native.guests()
    ids = {guest.ref.id for guest in guests}
    assert {path.name: os.readlink(path) for path in (root / "names").iterdir()} == {g.name: g.ref.id for g in guests}
    on_record = {(each.network, address): guest.ref.id for guest in guests
                 for each in native._store.record(guest.ref.id).endpoints for address in each.addresses}  # fmt: skip
    leases = {(name, address): owner for name, pool in native._networks.pools()
              for address, owner in pool.leases().items()}  # fmt: skip
    assert leases == on_record
    assert len(set(leases)) == len(leases)
    assert {path.name for path in (root / "containers").iterdir()} == ids
    assert {path.name for path in (root / "run" / "containers").iterdir()} <= ids
    for guest in guests:
        assert guest.state.is_live or not groups_of(native, guest.ref.id), guest
        assert json.loads((root / "containers" / guest.ref.id / "config.json").read_text())["ociVersion"]
        if guest.state is GuestState.PAUSED:
            native.resume(guest.ref, R)
        goes = native._store.record(guest.ref.id).auto_remove
        native.restart(guest.ref, R, timeout_s=0)
        with suppress(WrongState, *([NotFound] if goes else [])):
            native.stop(guest.ref, R, timeout_s=0)
        if goes:
            wait_until(partial(is_gone, native, guest))
        else:
            assert now(native, guest).state is GuestState.STOPPED


def test_a_container_is_thawed_when_the_client_that_saved_it_is_killed(
    native: NativeBackend, run: Run, root: Path, children: list[subprocess.Popen[bytes]],
    output_of: Callable[..., str],
) -> None:  # fmt: skip
    guest = run("sh", "-c", "while :; do sleep 0.1; done")
    output_of(guest, "for i in 1 2 3; do for j in $(seq 3000); do echo > /root/$i-$j; done; done")
    children.append(inn(root, "snapshot", "create", guest.name, "first"))
    wait_until(lambda: now(native, guest).state is GuestState.PAUSED, timeout_s=30)
    os.killpg(children[0].pid, signal.SIGKILL)
    wait_until(lambda: now(native, guest).state is GuestState.RUNNING)
    assert native.snapshots(guest.ref) == []
    wait_until(lambda: native.clean(R) == [])
    assert list((root / "containers" / guest.ref.id / "snapshots").iterdir()) == []


@pytest.mark.parametrize("moment_s", [0.0, 0.005, 0.01, 0.02, 0.04, 0.08])
def test_a_start_whose_supervisor_is_killed_leaves_no_process_and_can_be_repeated(
    native: NativeBackend, run: Run, root: Path, moment_s: float
) -> None:
    run("true")
    guest = native.create(ContainerSpec("host", ("sleep", "1000"), name="victim"), R)
    watcher = os.fork()
    if watcher == 0:
        try:
            path = root / "run" / "containers" / guest.ref.id / "alive"
            wait_until(path.exists)
            time.sleep(moment_s)
            kill_supervisor(root, "inn:victim")
        finally:
            os._exit(0)
    with suppress(InnkeeperError):
        native.start(guest.ref, R)
    os.waitpid(watcher, 0)
    wait_until(lambda: now(native, guest).state in (GuestState.CREATED, GuestState.STOPPED, GuestState.RUNNING))
    assert_true(native)
    if not now(native, guest).state.is_live:
        native.start(guest.ref, R)
    assert now(native, guest).state is GuestState.RUNNING
    native.kill(guest.ref, R)
    assert native.wait(guest.ref, timeout_s=30) == 137


def test_a_restore_that_a_power_cut_ended_loses_no_files(
    native: NativeBackend, run: Run, root: Path, output_of: Callable[..., str]
) -> None:
    guest = run("sleep", "1000")
    output_of(guest, "echo one > /root/f")
    native.snapshot_create(guest.ref, "first", R)
    output_of(guest, "echo two > /root/f")
    native.stop(guest.ref, R, timeout_s=0)
    folder = root / "containers" / guest.ref.id
    # The moment between the two renames: the old layer is aside, the new one not yet in its place.
    (folder / "upper").rename(folder / ".upper.old")
    (folder / ".upper.1").mkdir()
    native.clean(R)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    native.start(guest.ref, R)
    assert output_of(guest, "cat /root/f") == "two\n"
    native.stop(guest.ref, R, timeout_s=0)
    (folder / "upper").rename(folder / ".upper.old")
    native.snapshot_restore(guest.ref, "first", R)
    native.start(guest.ref, R)
    assert output_of(guest, "cat /root/f") == "one\n"


def test_a_rename_that_was_cut_short_leaves_one_name(native: NativeBackend, run: Run, root: Path) -> None:
    guest = run("sleep", "1000", name="old")
    (root / "names" / "new").symlink_to(guest.ref.id)
    assert native.clean(R) == ["name new: belongs to no container"]
    native.rename(guest.ref, "new", R)
    assert now(native, guest).name == "new"
