"""Snapshots of containers that do not live: stacked layers, whatever is removed or killed in between."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from backends.container import ContainerSpec
from backends.errors import Damaged, InnkeeperError
from backends.model import Guest, GuestState
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import now
from tests.tools.dying import dies_at
from tests.tools.needs import needs

pytestmark = [needs("root", "cgroup.cpu", "overlay"), pytest.mark.timeout(180)]
Run = Callable[..., Guest]
Output = Callable[..., str]
R = Recorder("test")


def halted(native: NativeBackend, guest: Guest, output_of: Output, line: str) -> None:
    """Run a shell line in a container and stop it."""
    if not now(native, guest).state.is_live:
        native.start(guest.ref, R)
    output_of(guest, line)
    native.stop(guest.ref, R, timeout_s=0)


def seen(native: NativeBackend, guest: Guest, output_of: Output, line: str) -> str:
    """Return what a shell line prints in a container that is started for it."""
    native.start(guest.ref, R)
    text = output_of(guest, line)
    native.stop(guest.ref, R, timeout_s=0)
    return text


def saved(root: Path) -> set[str]:
    """Return the names of all saved layers."""
    return {path.name for path in (root / "saved").iterdir() if path.name != "lock"}


def test_saving_a_stopped_container_moves_its_layer_and_copies_nothing(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000")
    halted(native, guest, output_of, "echo one > /root/f; rm /etc/profile")
    folder = root / "containers" / guest.ref.id
    before = (folder / "upper/root/f").stat().st_ino
    native.snapshot_create(guest.ref, "first", R)
    (layer,) = saved(root)
    assert (root / "saved" / layer / "fs/root/f").stat().st_ino == before
    assert list((folder / "upper").iterdir()) == []
    assert [record.kind for record in native.trace(guest.ref)][-1] == "stack"
    assert seen(native, guest, output_of, "cat /root/f; ls /etc/profile 2>&1 | wc -l; echo two > /root/f") == "one\n1\n"
    assert (root / "saved" / layer / "fs/root/f").read_text() == "one\n"


def test_a_snapshot_of_what_has_not_changed_adds_no_layer(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000")
    halted(native, guest, output_of, "echo one > /root/f")
    for name in ("a", "b", "c"):
        native.snapshot_create(guest.ref, name, R)
    assert len(saved(root)) == 1
    assert [(s.name, s.parent) for s in native.snapshots(guest.ref)] == [("a", None), ("b", "a"), ("c", "b")]
    native.snapshot_remove(guest.ref, "a", R)
    native.snapshot_restore(guest.ref, "b", R)
    assert seen(native, guest, output_of, "cat /root/f") == "one\n"


def test_one_removed_in_the_middle_leaves_those_above_and_below_whole(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000")
    for name in ("a", "b", "c"):
        halted(native, guest, output_of, f"echo {name} > /root/{name}; echo {name} > /root/last; rm -rf /root/d/{name}")
        native.snapshot_create(guest.ref, name, R)
    native.snapshot_remove(guest.ref, "b", R)
    assert [(s.name, s.parent) for s in native.snapshots(guest.ref)] == [("a", None), ("c", "a")]
    native.snapshot_restore(guest.ref, "a", R)
    assert seen(native, guest, output_of, "cd /root; cat last; ls a b c 2>/dev/null").split() == ["a", "a"]
    native.snapshot_restore(guest.ref, "c", R)
    assert seen(native, guest, output_of, "cd /root; cat last; ls a b c").split() == ["c", "a", "b", "c"]
    native.snapshot_restore(guest.ref, "a", R)
    native.snapshot_remove(guest.ref, "c", R)
    assert len(saved(root)) == 1
    native.remove(guest.ref, R)
    assert saved(root) == set()


def test_sizes_are_those_of_each_snapshots_own_layer(native: NativeBackend, run: Run, output_of: Output) -> None:
    guest = run("sleep", "1000")
    for name, megabytes in (("large", 3), ("small", 1)):
        halted(native, guest, output_of, f"dd if=/dev/urandom of=/root/{name} bs=1M count={megabytes} 2>/dev/null")
        native.snapshot_create(guest.ref, name, R)
    sizes = {found.name: found.size_bytes for found in native.snapshots(guest.ref)}
    assert sizes["large"] is not None
    assert sizes["small"] is not None
    assert 3 << 20 <= sizes["large"] < 4 << 20
    assert 1 << 20 <= sizes["small"] < 2 << 20


def test_the_root_folder_keeps_its_mode_owner_and_time(native: NativeBackend, run: Run, output_of: Output) -> None:
    guest = run("sleep", "1000")
    halted(native, guest, output_of, "touch /new; chown 33:34 /; chmod 711 /; touch -d @1000000000 /")
    native.snapshot_create(guest.ref, "first", R)
    assert seen(native, guest, output_of, "stat -c '%u:%g %a %Y' /") == "33:34 711 1000000000\n"
    native.snapshot_restore(guest.ref, "first", R)
    assert seen(native, guest, output_of, "stat -c '%u:%g %a' /") == "33:34 711\n"


def test_a_live_snapshot_restored_and_saved_again_keeps_deletions(
    native: NativeBackend, run: Run, output_of: Output
) -> None:
    guest = run("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
    output_of(guest, "mkdir -p /srv/d; echo 1 > /srv/d/one; rm /etc/profile")
    native.snapshot_create(guest.ref, "live", R)
    output_of(guest, "rm -r /srv/d; mkdir /srv/d; echo 2 > /srv/d/two")
    native.snapshot_create(guest.ref, "later", R)
    native.stop(guest.ref, R, timeout_s=0)
    native.snapshot_restore(guest.ref, "live", R)
    assert seen(native, guest, output_of, "ls /srv/d; ls /etc/profile 2>/dev/null; rm -r /srv/d; mkdir /srv/d") == (
        "one\n"
    )
    native.snapshot_create(guest.ref, "opaque", R)
    assert seen(native, guest, output_of, "ls /srv/d | wc -l") == "0\n"
    native.snapshot_restore(guest.ref, "later", R)
    assert seen(native, guest, output_of, "ls /srv/d") == "two\n"


def test_copies_of_earlier_versions_can_be_gone_back_to(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000")
    halted(native, guest, output_of, "echo old > /root/f")
    folder = root / "containers" / guest.ref.id
    old = folder / "snapshots" / "old"
    old.mkdir()
    os.system(f"cp -a {folder}/upper {old}/upper")
    (old / "snapshot.json").write_text(json.dumps({"created_s": 1.0, "parent": None, "size_bytes": 4096}))
    halted(native, guest, output_of, "echo new > /root/f")
    native.snapshot_create(guest.ref, "new", R)
    assert {s.name: s.size_bytes for s in native.snapshots(guest.ref)}["old"] == 4096
    native.snapshot_restore(guest.ref, "old", R)
    assert seen(native, guest, output_of, "cat /root/f") == "old\n"
    native.snapshot_restore(guest.ref, "new", R)
    assert seen(native, guest, output_of, "cat /root/f") == "new\n"
    native.snapshot_restore(guest.ref, "old", R)
    assert seen(native, guest, output_of, "cat /root/f") == "old\n"


def test_more_layers_than_fit_into_a_page_of_mount_data(native: NativeBackend, root: Path, output_of: Output) -> None:
    guest = native.create(ContainerSpec("host", ("sleep", "1000"), network="none"), R)
    upper = root / "containers" / guest.ref.id / "upper"
    for number in range(120):
        (upper / f"file{number}").write_text(str(number))
        native.snapshot_create(guest.ref, f"s{number}", R)
    native.start(guest.ref, R)
    assert output_of(guest, "ls -d /file* | wc -l; cat /file0 /file119") == "120\n0119"
    assert output_of(guest, "grep -c ' /.* tmpfs' /proc/mounts; pwd").endswith("/\n")
    native.stop(guest.ref, R, timeout_s=0)
    with native.copy_out(guest.ref, "/file7").stream as stream:
        assert b"7" in stream.read()


@needs("idmap")
def test_layers_of_a_container_with_users_of_its_own_keep_their_owners(
    native: NativeBackend, run: Run, output_of: Output
) -> None:
    guest = run("sleep", "1000", userns="auto")
    halted(native, guest, output_of, "touch /root/f; chown 33:34 /root/f; rm /etc/profile")
    native.snapshot_create(guest.ref, "first", R)
    line = "stat -c %u:%g /root/f /root /etc; ls /etc/profile 2>/dev/null; chown 35:36 /root/f && echo on >> /root/f"
    assert seen(native, guest, output_of, line).split() == ["33:34", "0:0", "0:0"]
    native.snapshot_create(guest.ref, "second", R)
    assert seen(native, guest, output_of, "stat -c %u:%g /root/f; cat /root/f").split() == ["35:36", "on"]
    with native.copy_out(guest.ref, "/root/f").stream as stream:
        assert b"on\n" in stream.read()


def test_killed_at_any_point_of_saving_it_starts_with_the_same_files(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000", network="none")
    halted(native, guest, output_of, "echo 0 > /root/f")
    for number in range(1, 100):
        name = f"s{number}"
        if not dies_at(number, lambda name=name: native.snapshot_create(guest.ref, name, R)):  # type: ignore[misc]
            break
        assert seen(native, guest, output_of, f"cat /root/f; echo {number} > /root/f") == f"{number - 1}\n"
        assert_listed_ones_are_whole(native, guest, root)
        native.clean(R)
        assert native.clean(R) == []
    assert number > 8
    native.remove(guest.ref, R)
    assert saved(root) == set()


def test_killed_at_any_point_of_a_restore_it_has_the_files_of_before_or_after(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000", network="none")
    halted(native, guest, output_of, "echo saved > /root/f")
    native.snapshot_create(guest.ref, "base", R)
    for number in range(1, 100):
        halted(native, guest, output_of, "echo later > /root/f")
        if not dies_at(number, lambda: native.snapshot_restore(guest.ref, "base", R)):
            break
        if number % 2:
            native.clean(R)
            assert native.clean(R) == []
        assert seen(native, guest, output_of, "cat /root/f") in ("saved\n", "later\n")
        assert [found.name for found in native.snapshots(guest.ref)] == ["base"]
    assert number > 6
    assert seen(native, guest, output_of, "cat /root/f") == "saved\n"
    with suppress(InnkeeperError):
        native.clean(R)
    assert sorted(path.name for path in (root / "containers" / guest.ref.id).iterdir() if "upper" in path.name) == [
        "upper"
    ]


def assert_listed_ones_are_whole(native: NativeBackend, guest: Guest, root: Path) -> None:
    """Every layer that a snapshot in the list names is there."""
    assert now(native, guest).state is GuestState.STOPPED
    for found in native.snapshots(guest.ref):
        path = root / "containers" / guest.ref.id / "snapshots" / found.name / "snapshot.json"
        assert all(Path(layer).is_dir() for layer in json.loads(path.read_text())["layers"])


def test_damaged_lists_of_layers_are_said_and_cost_no_layer(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000", network="none")
    halted(native, guest, output_of, "echo 1 > /root/f")
    native.snapshot_create(guest.ref, "one", R)
    folder = root / "containers" / guest.ref.id
    (folder / "snapshots" / "one" / "snapshot.json").write_text("{")
    with pytest.raises(Damaged, match="snapshot one"):
        native.snapshot_restore(guest.ref, "one", R)
    (folder / "pending.json").write_text('{"record": 3}')
    with pytest.raises(Damaged, match="pending"):
        native.start(guest.ref, R)
    assert any("pending.json is damaged" in line for line in native.clean(R))
    (folder / "pending.json").unlink()
    native.snapshot_remove(guest.ref, "one", R)
    assert len(saved(root)) == 1
    assert seen(native, guest, output_of, "cat /root/f") == "1\n"
