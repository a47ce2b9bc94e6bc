"""Clones and templates: what they share, what is their own, and what is left of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.container import ContainerSpec, RestartPolicy
from backends.errors import AlreadyExists, InnkeeperError, NotFound
from backends.model import Guest, GuestState
from backends.native.backend import NativeBackend
from backends.network import Attachment, NetworkSpec
from backends.trace import Recorder, Watcher
from tests.tools.containers import now
from tests.tools.dying import dies_at
from tests.tools.needs import needs

pytestmark = [needs("root", "cgroup.cpu", "overlay"), pytest.mark.timeout(180)]
Run = Callable[..., Guest]
Output = Callable[..., str]
R = Recorder("test")
CHECKOUT = Path(__file__).resolve().parents[2]


class Heard(Watcher):
    """Keeps what an operation says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def said(self, line: str) -> None:
        self.lines.append(line)


def saved(root: Path) -> set[str]:
    """Return the names of all saved layers."""
    return {path.name for path in (root / "saved").iterdir() if path.name != "lock"}


def started(native: NativeBackend, guest: Guest) -> Guest:
    """Start a guest and return it."""
    native.start(guest.ref, R)
    return guest


def test_a_clone_shares_the_files_and_both_change_on_their_own(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000", name="web", network="none")
    output_of(guest, "echo one > /root/f; rm /etc/profile")
    native.stop(guest.ref, R, timeout_s=0)
    inode = (root / "containers" / guest.ref.id / "upper/root/f").stat().st_ino
    clone = native.clone(guest.ref, None, R)
    assert (clone.name, clone.state, clone.image) == ("web-2", GuestState.CREATED, "host")
    (layer,) = saved(root)
    assert (root / "saved" / layer / "fs/root/f").stat().st_ino == inode, "moved, not copied"
    started(native, clone)
    started(native, guest)
    assert output_of(clone, "cat /root/f; ls /etc/profile 2>/dev/null; echo two > /root/f") == "one\n"
    assert output_of(guest, "cat /root/f; echo three > /root/f") == "one\n"
    assert output_of(clone, "cat /root/f") == "two\n"
    native.remove(guest.ref, R, force=True)
    native.restart(clone.ref, R, timeout_s=0)
    assert output_of(clone, "cat /root/f; hostname") == f"two\n{clone.ref.id}\n"
    assert native.clone(clone.ref, None, R).name == "web-3"
    for each in native.guests():
        native.remove(each.ref, R, force=True)
    assert saved(root) == set()


def test_a_running_container_is_cloned_as_it_is_at_one_moment(
    native: NativeBackend, run: Run, output_of: Output
) -> None:
    guest = run("sh", "-c", "while :; do echo x >> /root/a; echo x >> /root/b; done", network="none")
    clone = native.clone(guest.ref, "copy", R)
    assert now(native, guest).state is GuestState.RUNNING
    native.kill(guest.ref, R)
    store = native.places[0]
    layer = store.record(clone.ref.id).layers[0]
    a, b = (os.path.getsize(f"{layer}/root/{name}") for name in ("a", "b"))
    assert 0 <= a - b <= 2


def test_a_clone_of_a_snapshot_has_the_files_of_then(native: NativeBackend, run: Run, output_of: Output) -> None:
    guest = run("sleep", "1000", network="none")
    output_of(guest, "echo then > /root/f")
    native.snapshot_create(guest.ref, "then", R)
    output_of(guest, "echo now > /root/f")
    clone = started(native, native.clone(guest.ref, "old", R, snapshot="then"))
    assert output_of(clone, "cat /root/f") == "then\n"
    assert list(native.snapshots(clone.ref)) == []
    with pytest.raises(NotFound, match="no snapshot never"):
        native.clone(guest.ref, "none", R, snapshot="never")
    native.remove(guest.ref, R, force=True)
    native.restart(clone.ref, R, timeout_s=0)
    assert output_of(clone, "cat /root/f") == "then\n"


@needs("cgroup.memory")
def test_settings_are_those_of_now_and_what_only_one_can_have_is_its_own(
    native: NativeBackend, run: Run, output_of: Output
) -> None:
    guest = run(
        "sleep", "1000", env=("A=1",), cwd="/srv", labels={"k": "v"}, publish=("18080:80",), pids=50,
        hosts=("db:10.0.0.7",), user="1:1",
    )  # fmt: skip
    native.set_limits(guest.ref, {"memory_bytes": 64 << 20}, R)
    native.set_restart_policy(guest.ref, RestartPolicy("on-failure", 3), R)
    heard = Heard()
    clone = started(native, native.clone(guest.ref, "other", Recorder("test", watcher=heard)))
    assert heard.lines == ["its published ports are not taken over: 18080:80"]
    found, other = native.inspect(guest.ref), native.inspect(clone.ref)
    assert now(native, clone).limits == now(native, guest).limits
    assert (other["labels"], other["restart_policy"]) == ({"k": "v"}, "on-failure:3")
    assert output_of(clone, "echo $A; pwd; id -u; hostname").split() == ["1", "/srv", "1", clone.ref.id]
    addresses = [native.places[0].record(one.ref.id).endpoints[0].address for one in (guest, clone)]
    assert len(set(addresses)) == 2
    hosts = output_of(clone, "cat /etc/hosts")
    assert addresses[1] in hosts
    assert addresses[0] not in hosts
    assert "10.0.0.7\tdb" in hosts
    assert native.places[0].record(clone.ref.id).publish == []
    assert found["config"]["linux"]["cgroupsPath"] != other["config"]["linux"]["cgroupsPath"]


def test_a_clone_is_on_the_networks_that_the_other_is_on_now(
    native: NativeBackend, run: Run, output_of: Output
) -> None:
    native.network_create(NetworkSpec("clones-front"), R)
    native.network_create(NetworkSpec("clones-back"), R)
    guest = run("sleep", "1000", network="clones-front")
    native.network_connect(guest.ref, Attachment("clones-back"), R)
    clone = started(native, native.clone(guest.ref, None, R))
    records = [native.places[0].record(one.ref.id) for one in (guest, clone)]
    names = [[endpoint.network for endpoint in record.endpoints] for record in records]
    assert names[0] == names[1] == ["clones-front", "clones-back"]
    addresses = {endpoint.address for record in records for endpoint in record.endpoints}
    assert len(addresses) == 4
    for one in (guest, clone):
        native.remove(one.ref, R, force=True)
    for name in ("clones-front", "clones-back"):
        native.network_remove(name, R)


def test_volumes_of_its_own_are_copied(native: NativeBackend, run: Run, output_of: Output) -> None:
    guest = run("sleep", "1000", network="none", volumes=("/data",))
    output_of(guest, "echo one > /data/f")
    clone = started(native, native.clone(guest.ref, None, R))
    assert output_of(clone, "cat /data/f; echo two > /data/f") == "one\n"
    assert output_of(guest, "cat /data/f") == "one\n"
    native.template_create(guest.ref, "kept", R)
    output_of(guest, "rm /data/f")
    third = started(native, native.template_use("kept", None, R))
    assert output_of(third, "cat /data/f") == "one\n"


@needs("idmap")
def test_a_clone_with_users_of_its_own_has_others_than_the_first_and_owns_the_files(
    native: NativeBackend, run: Run, output_of: Output
) -> None:
    guest = run("sleep", "1000", network="none", userns="auto")
    output_of(guest, "touch /root/f /root/g; chown 33:34 /root/f")
    native.stop(guest.ref, R, timeout_s=0)
    clone = started(native, native.clone(guest.ref, None, R))
    started(native, guest)
    maps = [output_of(one, "cat /proc/self/uid_map").split()[1] for one in (guest, clone)]
    assert maps[0] != maps[1]
    line = "stat -c %u:%g / /etc /root/f /root/g; chown 35:36 /root/f && stat -c %u:%g /root/f"
    assert output_of(clone, line).split() == ["0:0", "0:0", "33:34", "0:0", "35:36"]
    assert output_of(guest, "stat -c %u:%g /root/f") == "33:34\n"
    again = started(native, native.clone(clone.ref, None, R))
    assert output_of(again, "stat -c %u:%g /root/f /root/g").split() == ["35:36", "0:0"]
    with native.copy_out(again.ref, "/root/f").stream as stream:
        assert stream.read()


def test_a_template_makes_containers_that_stay_whole_without_it(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000", name="web", network="none", env=("A=1",))
    output_of(guest, "dd if=/dev/urandom of=/root/f bs=1M count=2 2>/dev/null")
    made = native.template_create(guest.ref, "base", R)
    assert (made.name, made.image, made.guests) == ("base", "host", ())
    native.remove(guest.ref, R, force=True)
    first, second = native.template_use("base", None, R), native.template_use("base", "mine", R)
    assert (first.name, second.name, first.state) == ("base-1", "mine", GuestState.CREATED)
    (listed,) = native.templates()
    assert listed.guests == ("base-1", "mine")
    assert listed.size_bytes is not None
    assert 2 << 20 <= listed.size_bytes < 3 << 20
    with pytest.raises(AlreadyExists):
        native.template_create(second.ref, "base", R)
    native.template_remove("base", R)
    assert list(native.templates()) == []
    started(native, second)
    assert output_of(second, "stat -c %s /root/f; echo $A").split() == [str(2 << 20), "1"]
    with pytest.raises(NotFound, match="template"):
        native.template_use("base", None, R)
    for each in native.guests():
        native.remove(each.ref, R, force=True)
    assert saved(root) == set()
    assert list((root / "templates").iterdir()) == []


def test_a_name_that_is_taken_leaves_nothing_behind(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000", name="web", network="none")
    output_of(guest, "touch /root/f")
    with pytest.raises(AlreadyExists):
        native.clone(guest.ref, "web", R)
    with pytest.raises(InnkeeperError):
        native.template_create(guest.ref, "../x", R)
    assert saved(root) == set()
    assert native.clean(R) == []


def test_killed_at_any_point_of_a_clone_nothing_half_made_stays_and_the_source_works(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000", name="web")
    output_of(guest, "echo 0 > /root/f")
    native.stop(guest.ref, R, timeout_s=0)
    for number in range(1, 100):
        if not dies_at(number, lambda: native.clone(guest.ref, "copy", R)):
            break
        native.clean(R)
        assert native.clean(R) == []
        assert {one.name for one in native.guests()} <= {"web", "copy"}
        for one in native.guests():
            native.start(one.ref, R)
            assert output_of(one, "cat /root/f") == "0\n"
            native.stop(one.ref, R, timeout_s=0)
            if one.name == "copy":
                native.remove(one.ref, R)
    assert number > 8
    for one in native.guests():
        native.remove(one.ref, R)
    assert saved(root) == set()


def test_killed_at_any_point_of_making_a_template_there_is_a_whole_one_or_none(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000", name="web", network="none", volumes=("/data",))
    output_of(guest, "echo 0 > /root/f; touch /data/g")
    native.stop(guest.ref, R, timeout_s=0)
    for number in range(1, 100):
        if not dies_at(number, lambda: native.template_create(guest.ref, "kept", R)):
            break
        native.clean(R)
        assert native.clean(R) == []
        for template in native.templates():
            made = started(native, native.template_use(template.name, "made", R))
            assert output_of(made, "cat /root/f; ls /data") == "0\ng\n"
            native.remove(made.ref, R, force=True)
            native.template_remove(template.name, R)
    assert number > 5


def test_snapshots_are_compared_with_each_other_and_with_the_present_files(
    native: NativeBackend, run: Run, output_of: Output
) -> None:
    guest = run("sleep", "1000", network="none")
    output_of(guest, "mkdir /srv/d; echo 1 > /srv/d/a; echo 1 > /srv/d/b; echo 1 > /srv/keep")
    native.snapshot_create(guest.ref, "one", R)
    output_of(guest, "echo 22 > /srv/d/a; rm /srv/d/b; rm -r /etc/profile; mkdir /srv/new; touch /srv/new/x")
    native.stop(guest.ref, R, timeout_s=0)
    native.snapshot_create(guest.ref, "two", R)
    expected = ["C /etc", "D /etc/profile", "C /srv", "C /srv/d", "C /srv/d/a", "D /srv/d/b", "A /srv/new",
                "A /srv/new/x"]  # fmt: skip
    assert [f"{each.kind} {each.path}" for each in native.snapshot_diff(guest.ref, "one", "two")] == expected
    assert [f"{each.kind} {each.path}" for each in native.snapshot_diff(guest.ref, "one")] == expected
    assert list(native.snapshot_diff(guest.ref, "two")) == []
    started(native, guest)
    output_of(guest, "rm -r /srv/new /srv/d; echo 1 > /srv/d")
    assert [f"{each.kind} {each.path}" for each in native.snapshot_diff(guest.ref, "two")] == [
        "C /srv", "C /srv/d", "D /srv/new",
    ]  # fmt: skip
    assert now(native, guest).state is GuestState.RUNNING


def test_containers_of_one_image_share_its_layers(native: NativeBackend) -> None:
    made = [native.create(ContainerSpec("host", ("true",), network="none"), R) for _ in range(2)]
    first, second = (native.places[0].record(guest.ref.id).layers for guest in made)
    assert first == second


def test_the_verbs_of_the_command_line_do_all_of_it(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    def inn(*words: str) -> str:
        command = [sys.executable, str(CHECKOUT / "innkeeper.py"), "--root", str(root), "--backend", "native", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout

    guest = run("sleep", "1000", name="web", network="none")
    inn("snapshot", "create", "web", "one")
    output_of(guest, "echo 1 > /srv/a")
    assert inn("snapshot", "diff", "web", "one") == "C /srv\nA /srv/a\n"
    assert {"kind": "A", "path": "/srv/a", "size_bytes": 2} in json.loads(
        inn("snapshot", "diff", "--json", "web", "one")
    )
    assert inn("clone", "web") == "web-2\n"
    assert inn("clone", "--snapshot", "one", "web", "then") == "then\n"
    assert inn("template", "create", "web", "base") == "base\n"
    assert inn("template", "use", "base") == "base-1\n"
    assert [(each["name"], each["guests"]) for each in json.loads(inn("template", "ls", "--json"))] == [
        ("base", ["base-1"])
    ]
    assert inn("template", "ls").split()[:5] == ["TEMPLATE", "AGE", "SIZE", "IMAGE", "GUESTS"]
    assert inn("__complete", "--", "template", "use", "").split("\t")[0] == "base"
    assert json.loads(inn("inspect", "base-1"))["template"] == "base"
    assert inn("template", "rm", "base") == "base\n"
    assert sorted(one.name for one in native.guests()) == ["base-1", "then", "web", "web-2"]
