"""Containers become images: what they changed, live and stopped, and nothing that was only mounted in them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.container import ContainerSpec
from backends.errors import Unsupported, UsageError
from backends.image import CommitOptions
from backends.model import Guest, GuestState
from backends.native.backend import NativeBackend
from backends.native.layers import store
from backends.trace import Recorder
from tests.kernel.conftest import native, output_of, root, run
from tests.tools.dying import dies_at
from tests.tools.needs import needs
from tests.tools.waiting import wait_until
from tests.tools.workbench import Workbench, workbench

pytestmark = [needs("root", "cgroup.cpu", "busybox"), pytest.mark.timeout(60)]
__all__ = ["native", "output_of", "root", "run"]
R = Recorder("test")
CHANGES = "echo new > /new; mkdir -p /d/e; rm /etc/group; chmod 600 /etc/passwd; "


@pytest.fixture
def bench(native: NativeBackend, tmp_path: Path) -> Iterator[Workbench]:
    with workbench(native, tmp_path) as made:
        yield made


def ended(bench: Workbench, line: str) -> Guest:
    """Return a container that has run a line and ended."""
    guest = bench.native.create(ContainerSpec("base", ("sh", "-c", line), network="none"), R)
    bench.native.start(guest.ref, R)
    bench.native.wait(guest.ref, timeout_s=20)
    return guest


def test_a_stopped_container_becomes_an_image_with_what_it_changed(bench: Workbench) -> None:
    guest = ended(bench, CHANGES)
    options = CommitOptions("me", "hello", ('CMD ["cat", "/new"]', "ENV A=b C=d", "LABEL x=y"))

    image = bench.native.commit(guest.ref, "made:1", options, R)

    bench.native.remove(guest.ref, R)
    assert image.name == "made:1"
    assert bench.said("made:1") == "new\n"
    line = "ls /d; ls /etc; stat -c %a /etc/passwd; echo $A $C"
    assert bench.said("made:1", "sh", "-c", line).split() == ["e", "hostname", "hosts", "passwd", "resolv.conf", "600",
                                                              "b", "d"]  # fmt: skip
    newest = bench.native.image_history("made:1")[-1]
    assert (newest.created_by.startswith("CMD"), newest.comment) == (True, "hello")
    assert bench.config(image)["Labels"] == {"x": "y"}


def test_what_was_only_mounted_is_no_part_of_the_image(bench: Workbench) -> None:
    guest = ended(bench, "true")

    assert list(bench.native.changes(guest.ref)) == []
    image = bench.native.commit(guest.ref, "", CommitOptions(), R)
    assert image.layers == 1
    assert image.is_dangling
    bench.native.remove(guest.ref, R)


def test_changes_are_told_by_path(bench: Workbench) -> None:
    guest = ended(bench, CHANGES)

    found = {change.path: change.kind for change in bench.native.changes(guest.ref)}

    assert found == {"/new": "A", "/d": "A", "/d/e": "A", "/etc": "C", "/etc/group": "D", "/etc/passwd": "C"}
    bench.native.remove(guest.ref, R)


def test_a_live_container_is_committed_and_goes_on(bench: Workbench) -> None:
    spec = ContainerSpec("base", ("sh", "-c", "echo x > /x; echo ready; exec sleep 1000"), network="none")
    guest = bench.native.create(spec, R)
    bench.native.start(guest.ref, R)
    wait_until(lambda: any(b"ready" in line.data for line in bench.native.logs(guest.ref)), timeout_s=10)

    bench.native.commit(guest.ref, "live", CommitOptions(), R)

    assert next(each for each in bench.native.guests() if each.ref == guest.ref).state is GuestState.RUNNING
    bench.native.remove(guest.ref, R, force=True)
    assert bench.said("live", "cat", "/x") == "x\n"


def test_layers_that_snapshots_put_aside_are_in_the_image_too(bench: Workbench) -> None:
    guest = ended(bench, "echo $((1)) >> /count")
    bench.native.snapshot_create(guest.ref, "one", R)
    bench.native.start(guest.ref, R)
    bench.native.wait(guest.ref, timeout_s=20)

    bench.native.commit(guest.ref, "both", CommitOptions(), R)

    bench.native.remove(guest.ref, R)
    assert bench.said("both", "cat", "/count") == "1\n1\n"


def test_after_a_snapshot_that_was_killed_at_any_point_nothing_is_missing(bench: Workbench) -> None:
    for number in range(1, 100):
        guest = ended(bench, "echo x > /x")
        was_killed = dies_at(number, lambda guest=guest: bench.native.snapshot_create(guest.ref, "s", R))  # type: ignore[misc]
        assert [change.path for change in bench.native.changes(guest.ref)] == ["/x"]
        bench.native.commit(guest.ref, "whole", CommitOptions(), R)
        bench.native.remove(guest.ref, R)
        assert bench.said("whole", "cat", "/x") == "x\n"
        if not was_killed:
            break
    assert number > 3


def test_times_are_exact_and_the_same_files_make_the_same_layer(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST_FREE_BYTES", 1 << 20)  # what a larger hole would come to
    guest = ended(bench, "echo x > /x; mkdir /d; ln -s x /link")
    upper = bench.native.places[0].folder(guest.ref.id) / "upper"
    times = {"x": 1234567890_123456789, "d": 1234567890_100000000, "link": -1_500_000_000}
    with (upper / "x").open("wb") as file:
        file.seek(64 << 20)
        file.write(b"end")
    for name, time_ns in times.items():
        os.utime(upper / name, ns=(time_ns, time_ns), follow_symlinks=False)

    images = [bench.native.commit(guest.ref, f"made:{number}", CommitOptions(), R) for number in range(2)]

    bench.native.remove(guest.ref, R)
    stacks = [bench.native.image_store.stack(bench.native.image_store.resolve(image.id)) for image in images]
    assert stacks[0] == stacks[1]
    found = {name: os.lstat(f"{stacks[0][0]}/{name}") for name in times}
    assert {name: each.st_mtime_ns for name, each in found.items()} == times
    assert found["x"].st_size == (64 << 20) + 3
    assert found["x"].st_blocks * 512 < 256 << 10


@needs("idmap")
def test_owners_are_those_that_the_container_sees(bench: Workbench) -> None:
    line = "mkdir /d; touch /d/f /d/capable; chown 33:34 /d/f; chmod 4755 /d/f; ln -s f /d/link; chown -h 1:2 /d/link"
    guest = bench.native.create(ContainerSpec("base", ("sh", "-c", line), network="none", userns="auto"), R)
    bench.native.start(guest.ref, R)
    bench.native.wait(guest.ref, timeout_s=20)
    upper = bench.native.places[0].folder(guest.ref.id) / "upper"
    root_id = (upper / "d").stat().st_uid
    assert root_id >= 100_000
    # What setcap gives away in there (struct vfs_ns_cap_data), whose last number is its root; cap_net_raw=ep.
    os.setxattr(upper / "d/capable", "security.capability", struct.pack("<6I", 0x03000001, 1 << 13, 0, 0, 0, root_id))
    assert [change.path for change in bench.native.changes(guest.ref)] == ["/d", "/d/capable", "/d/f", "/d/link"]
    bench.native.snapshot_create(guest.ref, "first", R)
    clone = bench.native.clone(guest.ref, None, R)
    bench.native.start(clone.ref, R)
    bench.native.wait(clone.ref, timeout_s=20)

    for number, each in enumerate((guest, clone)):
        image = bench.native.commit(each.ref, f"owned:{number}", CommitOptions(), R)
        bench.native.remove(each.ref, R)
        line = "stat -c %u:%g,%a / /etc /d /d/f; stat -c %u:%g /d/link"
        assert bench.said(image, "sh", "-c", line).split() == ["0:0,755", "0:0,755", "0:0,755", "33:34,4755", "1:2"]
        stack = bench.native.image_store.stack(bench.native.image_store.resolve(image.id))
        place = next(f"{layer}/d/capable" for layer in stack if os.path.exists(f"{layer}/d/capable"))
        assert os.getxattr(place, "security.capability") == struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)


def test_what_cannot_be_committed_is_refused_before_anything_is_made(bench: Workbench) -> None:
    guest = ended(bench, "true")
    with pytest.raises(UsageError, match="RUN cannot be a change"):
        bench.native.commit(guest.ref, "x", CommitOptions(changes=("RUN x",)), R)
    bench.native.remove(guest.ref, R)
    host = bench.native.create(ContainerSpec("host", ("true",)), R)
    with pytest.raises(Unsupported, match="image host"):
        bench.native.commit(host.ref, "x", CommitOptions(), R)
    bench.native.remove(host.ref, R)
    assert [image.name for image in bench.native.images() if image.name not in ("host", "base:latest")] == []
