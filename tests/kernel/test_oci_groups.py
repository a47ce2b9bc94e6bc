"""A container's control group: its devices, its processes, its counters, and who may have one."""

from __future__ import annotations

import os
import re
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.errors import InnkeeperError
from backends.kernel import device_program
from backends.kernel.cgroup import Cgroup, CgroupHost
from backends.kernel.cgroup_entrance import Entrance
from backends.kernel.cgroup_oom import OomWatch
from backends.oci import cgroups, resources, stats
from backends.oci.errors import OciError
from backends.trace import Recorder
from tests.tools.groups import MIB, below_another, host_of, is_v2, make, run_in, views
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu", "cgroup.memory", "cgroup.pids"), pytest.mark.timeout(60)]

HOG = "import mmap\nblock = mmap.mmap(-1, 200 << 20)\nfor page in range(0, len(block), 4096): block[page] = 1"

DENY_ALL = {"allow": False, "access": "rwm"}


@pytest.fixture(params=["v1", "v2"])
def device_group(request: pytest.FixtureRequest) -> Iterator[Cgroup]:
    """A group whose devices are filtered by files (v1) or by a program (v2), where this kernel has the one."""
    host = host_of(request.param)
    if not host.hierarchies or (request.param == "v1" and host.hierarchy("devices") is None):
        pytest.skip(f"needs {request.param} devices: this host has none")
    yield from below_another(host)


@pytest.fixture(params=views())
def host(request: pytest.FixtureRequest) -> CgroupHost:
    return host_of(request.param)


@pytest.fixture
def group(host: CgroupHost) -> Iterator[Cgroup]:
    yield from below_another(host)


# ── devices ─────────────────────────────────────────────────────────────────────────────────────────

OPENS = """
import os, sys
for line in sys.stdin:
    try:
        os.close(os.open(line.strip(), os.O_RDWR))
        print("yes", flush=True)
    except PermissionError:
        print("no", flush=True)
"""


def filtered(group: Cgroup, entries: list[dict[str, Any]], *, defaults: bool = True) -> None:
    Recorder("test").run_all(resources.device_steps(group, entries, defaults=defaults))


def asked(process: subprocess.Popen[str], path: str) -> bool:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{path}\n")
    process.stdin.flush()
    return process.stdout.readline() == "yes\n"


def char(allow: bool, major: int | None, minor: int | None, access: str = "rwm") -> dict[str, Any]:
    return {"allow": allow, "type": "c", "major": major, "minor": minor, "access": access}


def test_a_list_of_devices_is_in_force_and_another_takes_its_place(device_group: Cgroup) -> None:
    filtered_steps = [*device_group.create_steps(), *resources.device_steps(device_group, [DENY_ALL])]
    Recorder("test").run_all(filtered_steps)
    process = run_in(device_group, OPENS)

    assert asked(process, "/dev/null")
    assert not asked(process, "/dev/kmsg")
    filtered(device_group, [DENY_ALL, char(True, 1, 11, "rw")])
    assert asked(process, "/dev/kmsg")
    filtered(device_group, [DENY_ALL, char(True, 1, 11, "r"), char(True, 1, 7)], defaults=False)
    assert not asked(process, "/dev/kmsg")
    assert not asked(process, "/dev/null")
    assert asked(process, "/dev/full")
    filtered(device_group, [{"allow": True, "access": "rwm"}, char(False, 1, 11, "w")], defaults=False)
    assert not asked(process, "/dev/kmsg")
    assert asked(process, "/dev/null")
    process.communicate()
    assert _programs(device_group) <= 1


def test_exchanging_lists_never_takes_away_what_both_allow(device_group: Cgroup) -> None:
    Recorder("test").run_all(device_group.create_steps())
    filtered(device_group, [DENY_ALL])
    loop = "import os\nwhile True:\n    os.close(os.open('/dev/null', os.O_RDWR))\n"
    process = run_in(device_group, f"print(1, flush=True)\n{loop}")
    assert process.stdout is not None
    process.stdout.readline()

    for turn in range(100):
        filtered(device_group, [DENY_ALL, char(True, 1, 11, "rw")] if turn % 2 else [DENY_ALL])

    assert process.poll() is None
    process.kill()
    process.communicate()
    assert _programs(device_group) <= 1


def _programs(group: Cgroup) -> int:
    if group.unified is None:
        return 0
    fd = os.open(group.unified, os.O_RDONLY)
    try:
        return len(device_program.attached(fd))
    finally:
        os.close(fd)


# ── getting in, and what is refused ─────────────────────────────────────────────────────────────────


def test_a_process_born_at_the_entrance_is_in_every_hierarchy(group: Cgroup) -> None:
    make(group, {"pids": {"limit": 1}})
    entrance = Entrance(group)
    reading, writing = os.pipe()

    pid = entrance.fork()
    if pid == 0:
        try:
            entrance.enter()
            os.write(writing, Path("/proc/self/cgroup").read_bytes())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    entrance.close()

    places = {line.split(":")[1]: line.split(":")[2] for line in text.splitlines()}
    for hierarchy in group.host.hierarchies:
        names = [name for name in places if set(name.split(",")) & hierarchy.controllers]
        name = "" if hierarchy.version == 2 else names[0]
        assert places[name].endswith(f"/{group.path}")


def test_a_group_with_processes_or_frozen_is_no_new_container_s(group: Cgroup) -> None:
    cgroups.check_unused(group)
    make(group)
    cgroups.check_unused(group)
    process = run_in(group, "input()")

    with pytest.raises(OciError, match=r"container's cgroup is not empty: 1 process\(es\) found"):
        cgroups.check_unused(group)
    process.communicate("\n")
    wait_until(lambda: not group.is_populated())
    group.freeze()
    with pytest.raises(OciError, match="container's cgroup unexpectedly frozen"):
        cgroups.check_unused(group)
    group.thaw()


@pytest.mark.parametrize(
    "linux, said",
    [({"cgroupsPath": "/innkeeper-test-x/y"}, "unable to apply cgroup configuration: mkdir .*: permission denied"),
     ({}, "without"), ({"resources": {"pids": {"limit": 5}}}, "limit")],
)  # fmt: skip
def test_a_plain_user_goes_without_a_group_unless_it_asked_for_one(
    host: CgroupHost, linux: dict[str, Any], said: str
) -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(())
            os.setresuid(65534, 65534, 65534)
            os.write(writing, _as_plain_user(host, linux).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert re.search(said, pipe.read())


def _as_plain_user(host: CgroupHost, linux: dict[str, Any]) -> str:
    try:
        group = cgroups.usable(host.group("innkeeper-test-x/y"), {"linux": linux})
        if group is None and not linux.get("resources"):
            return "without"
        resources.steps(group or host.group("x"), linux["resources"])
        return "no limit was needed" if group is None else "limits"
    except InnkeeperError as error:
        return error.message


# ── being told ──────────────────────────────────────────────────────────────────────────────────────


def test_counters_have_runc_s_names_and_move(group: Cgroup) -> None:
    make(group, {"memory": {"limit": 64 * MIB}, "pids": {"limit": 9}, "cpu": {"quota": 20_000}})
    process = run_in(group, "end = sum(range(20_000_000))\nprint(1, flush=True)\ninput()")
    assert process.stdout is not None
    process.stdout.readline()

    found = stats.read(group, process.pid)

    usage = found["cpu"]["usage"]
    assert usage["total"] > 1_000_000
    assert found["memory"]["usage"]["limit"] == 64 * MIB
    assert 0 < found["memory"]["usage"]["usage"] <= found["memory"]["usage"]["max"] or is_v2(group)
    assert found["pids"] == {"current": 1, "limit": 9}
    assert found["cpu"]["throttling"]["throttledPeriods"] > 0
    assert found["memory"]["raw"]
    assert found["network_interfaces"] is None
    process.communicate("\n")


@needs("root")
def test_interfaces_are_those_of_the_container_s_own_network() -> None:
    line = "ip link add inn0 type veth peer name inn1 && echo && exec cat"
    process = subprocess.Popen(("unshare", "-n", "sh", "-c", line), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if not process.stdout.readline():
        process.communicate()
        pytest.skip("needs the ip command and veth interfaces")

    found = stats.interfaces(process.pid)

    assert found is not None
    assert sorted(entry["Name"] for entry in found) == ["inn0", "inn1"]
    assert "TxDropped" in found[0]
    process.communicate(b"")


def test_a_kill_for_memory_is_told_at_once_and_only_once(group: Cgroup) -> None:
    swap = {"swap": 40 * MIB} if not group.host.reasons()["swap_bytes"] else {}
    make(group, {"memory": {"limit": 40 * MIB, **swap}})
    watch = OomWatch(group)
    poll = select.poll()
    poll.register(watch.fileno(), select.POLLIN)

    process = run_in(group, HOG)
    count = 0
    while count == 0:
        assert poll.poll(20_000)
        count = watch.kills()
    process.communicate()

    assert process.returncode == -9
    assert count == 1
    assert watch.kills() == 0
    assert group.oom_kills() == 1
    wait_until(lambda: not group.is_populated())
    group.remove()
    assert poll.poll(5000) or is_v2(group)
    assert watch.kills() == 0
    assert watch.is_over
    watch.close()


def test_freezing_works_while_processes_keep_coming(group: Cgroup) -> None:
    make(group)
    forks = (
        "import os\nprint(1, flush=True)\nwhile True:\n    pid = os.fork()\n    if not pid: os._exit(0)\n    os.wait()"
    )
    process = run_in(group, forks)
    assert process.stdout is not None
    process.stdout.readline()

    for _ in range(10):
        group.freeze()
        assert group.is_frozen()
        group.thaw()
    group.freeze()
    group.kill()

    process.communicate()
    assert process.returncode == -9
