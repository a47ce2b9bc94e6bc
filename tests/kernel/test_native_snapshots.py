"""Snapshots of containers' file systems."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backends.errors import AlreadyExists, NotFound, UsageError
from backends.model import Guest, GuestState
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import now
from tests.tools.needs import needs

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(120)]
Run = Callable[..., Guest]
Output = Callable[..., str]
R = Recorder("test")
ENDS_WHEN_ASKED = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
"""A first process has no default actions: `sleep` would make each stop of a restore last its 10 s."""


def test_a_snapshot_brings_back_files_and_what_was_deleted(native: NativeBackend, run: Run, output_of: Output) -> None:
    guest = run(*ENDS_WHEN_ASKED)
    output_of(guest, "echo one > /root/f; ln /root/f /root/g; rm /etc/profile; mkdir /opt/d")
    output_of(guest, "rm -r /var/log; mkdir /var/log")
    native.snapshot_create(guest.ref, "first", R)
    output_of(guest, "echo two > /root/f; echo back > /etc/profile; rm -r /opt/d; touch /var/log/x")
    native.snapshot_restore(guest.ref, "first", R)
    assert now(native, guest).state is GuestState.RUNNING
    text = output_of(guest, "cat /root/f /root/g; ls /etc/profile 2>/dev/null; ls -d /opt/d; ls -A /var/log")
    assert text.split() == ["one", "one", "/opt/d"]
    assert output_of(guest, "stat -c %h /root/f") == "2\n"


def test_a_stopped_container_stays_stopped_over_a_restore(native: NativeBackend, run: Run, output_of: Output) -> None:
    guest = run("sleep", "1000")
    output_of(guest, "echo one > /root/f")
    native.stop(guest.ref, R, timeout_s=0.1)
    native.snapshot_create(guest.ref, "first", R)
    native.snapshot_restore(guest.ref, "first", R)
    assert now(native, guest).state is GuestState.STOPPED
    native.start(guest.ref, R)
    assert output_of(guest, "cat /root/f") == "one\n"


def test_snapshots_form_a_tree(native: NativeBackend, run: Run) -> None:
    guest = run(*ENDS_WHEN_ASKED)
    native.snapshot_create(guest.ref, "a", R)
    native.snapshot_create(guest.ref, "b", R)
    native.snapshot_restore(guest.ref, "a", R)
    native.snapshot_create(guest.ref, "c", R)
    found = {s.name: (s.parent, s.is_current) for s in native.snapshots(guest.ref)}
    assert found == {"a": (None, False), "b": ("a", False), "c": ("a", True)}
    native.snapshot_remove(guest.ref, "a", R)
    found = {s.name: (s.parent, s.is_current) for s in native.snapshots(guest.ref)}
    assert found == {"b": (None, False), "c": (None, True)}
    native.snapshot_restore(guest.ref, "b", R)


def test_a_running_container_is_frozen_for_it_and_goes_on(native: NativeBackend, run: Run, output_of: Output) -> None:
    guest = run("sleep", "1000")
    native.snapshot_create(guest.ref, "live", R)
    assert now(native, guest).state is GuestState.RUNNING
    assert output_of(guest, "echo on") == "on\n"
    texts = [record.text for record in native.trace(guest.ref)]
    assert [text.split()[0] for text in texts[-3:]] == ["freeze", "copy", "thaw"]


def test_a_paused_container_stays_paused_over_a_snapshot(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    native.pause(guest.ref, R)
    native.snapshot_create(guest.ref, "frozen", R)
    assert now(native, guest).state is GuestState.PAUSED


def test_names_that_make_no_sense_change_nothing(native: NativeBackend, run: Run, root: Path) -> None:
    guest = run("sleep", "1000")
    native.snapshot_create(guest.ref, "one", R)
    with pytest.raises(AlreadyExists):
        native.snapshot_create(guest.ref, "one", R)
    for verb in (native.snapshot_restore, native.snapshot_remove):
        with pytest.raises(NotFound, match="two"):
            verb(guest.ref, "two", R)
        with pytest.raises(UsageError):
            verb(guest.ref, "../../x", R)
    assert now(native, guest).state is GuestState.RUNNING
    folder = root / "containers" / guest.ref.id / "snapshots"
    assert [path.name for path in folder.iterdir()] == ["one"]


def test_what_holds_very_deep_folders_is_removed_all_the_same(
    native: NativeBackend, run: Run, output_of: Output, root: Path
) -> None:
    guest = run("sleep", "1000", network="none", volumes=("box:/box",))
    for top in ("/root", "/box"):
        output_of(guest, f"cd {top}; n=0; while [ $n -lt 1200 ]; do mkdir d; cd d; n=$((n + 1)); done")
    native.stop(guest.ref, R, timeout_s=0.1)
    native.snapshot_create(guest.ref, "first", R)
    native.template_create(guest.ref, "model", R)

    native.snapshot_restore(guest.ref, "first", R)
    native.snapshot_remove(guest.ref, "first", R)
    native.template_remove("model", R)
    native.remove(guest.ref, R)
    native.volume_remove("box", R)

    assert native.clean(R) == []
    assert [path for path in root.rglob("d/d") if "images" not in path.parts] == []
