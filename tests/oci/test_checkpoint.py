"""Containers to disk and back, where CRIU works; and what is said where it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backends.oci import criu
from tests.oci.life import create, groups_of, has_status, is_refused, left_behind, running, start, state
from tests.tools.bundles import Bundle
from tests.tools.engines import Podman
from tests.tools.needs import facility, needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "busybox"), pytest.mark.timeout(90)]
COUNT = "exec > /dev/null 2>&1; i=0; while :; do i=$((i+1)); echo $i >> /count; sleep 0.05; done"
"""Its output is the container's own file: CRIU brings back no file that is the host's."""


@facility("criu")
def _criu(_: str) -> str:
    return criu.why_not()


def counted(bundle: Bundle) -> list[int]:
    file = bundle.folder / "rootfs" / "count"
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def counting(bundle: Bundle, name: str) -> list[int]:
    bundle.process["args"] = ["sh", "-c", COUNT]
    bundle.write()
    running(bundle, name)
    return wait_until(lambda: there if len(there := counted(bundle)) > 5 else None)


def restored(bundle: Bundle, name: str, image: Path, *options: str) -> None:
    where = ("--bundle", str(bundle.folder), "--image-path", str(image))
    done = left_behind(bundle, "restore", "--detach", *where, *options, name)
    assert (done.code, done.err) == (0, ""), done


@pytest.mark.skipif(not criu.why_not(), reason="CRIU works here")
def test_where_criu_cannot_its_own_words_are_the_reason_and_the_container_goes_on(bundle: Bundle) -> None:
    running(bundle, "stays")

    done = bundle.oci("checkpoint", "--image-path", str(bundle.folder / "image"), "stays")

    assert is_refused(done, "cannot checkpoint container stays: CRIU")
    assert state(bundle, "stays")["status"] == "running"


@needs("criu")
def test_a_program_goes_on_where_it_was_in_its_group_with_a_console(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.folder / "volume").mkdir()
    mount = {"destination": "/volume", "source": "volume", "options": ["bind"]}
    bundle.config["mounts"].append(mount)
    bundle.linux["resources"] = {"pids": {"limit": 20}}
    name, image = f"counts-{os.getpid()}", tmp_path / "image"
    before = counting(bundle, name)

    done = bundle.oci("checkpoint", "--image-path", str(image), "--work-path", str(tmp_path / "work"), name)

    assert (done.code, done.err) == (0, "")
    assert is_refused(bundle.oci("state", name), "does not exist")
    assert not groups_of(name)
    restored(bundle, name, image, "--pid-file", str(tmp_path / "pid"))
    wait_until(lambda: len(counted(bundle)) > len(before) + 20)
    there = counted(bundle)
    assert there == list(range(1, len(there) + 1))
    assert state(bundle, name)["pid"] == int((tmp_path / "pid").read_text())
    assert name in Path(f"/proc/{state(bundle, name)['pid']}/cgroup").read_text()
    limits = [Path(group, "pids.max") for group in groups_of(name)]
    assert [limit.read_text() for limit in limits if limit.exists()] == ["20\n"]
    (bundle.folder / "volume" / "file").write_text("mine\n")
    said = bundle.oci("exec", name, "sh", "-c", "cat /volume/file; ip link show lo")
    assert said.out.startswith("mine\n")
    assert "LOOPBACK,UP" in said.out


@needs("criu")
def test_one_can_go_on_beside_its_checkpoint_and_others_come_of_it(bundle: Bundle, tmp_path: Path) -> None:
    counting(bundle, "first")

    done = bundle.oci("checkpoint", "--leave-running", "--image-path", str(tmp_path / "image"), "first")

    assert (done.code, done.err) == (0, "")
    has_status(bundle, "first", "running")
    restored(bundle, "second", tmp_path / "image")
    has_status(bundle, "second", "running")
    assert state(bundle, "first")["pid"] != state(bundle, "second")["pid"]


@needs("criu")
def test_in_the_foreground_it_ends_as_the_program_does_and_is_deleted(bundle: Bundle, tmp_path: Path) -> None:
    bundle.process["args"] = ["sh", "-c", "exec > /dev/null 2>&1; while [ ! -e /go ]; do sleep 0.05; done; exit 7"]
    bundle.write()
    running(bundle, "ends")
    assert bundle.oci("checkpoint", "--image-path", str(tmp_path / "image"), "ends").code == 0
    (bundle.folder / "rootfs" / "go").touch()

    done = bundle.oci("restore", "--bundle", str(bundle.folder), "--image-path", str(tmp_path / "image"), "ends")

    assert (done.code, done.err) == (7, "")
    assert is_refused(bundle.oci("state", "ends"), "does not exist")


@needs("criu")
def test_what_cannot_be_done_is_said_and_nothing_is_left(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    where = ("--bundle", str(bundle.folder), "--image-path", str(tmp_path / "empty"))
    done = left_behind(bundle, "restore", "--detach", *where, "nothing")
    assert is_refused(done, "no checkpoint of this runtime in")
    assert is_refused(bundle.oci("state", "nothing"), "does not exist")
    assert not groups_of("nothing")
    create(bundle, "waits")
    assert is_refused(bundle.oci("checkpoint", "waits"), "cannot be checkpointed in created state")
    start(bundle, "waits")
    words = ("checkpoint", "--image-path", str(tmp_path / "image"), "waits")
    assert is_refused(bundle.oci(*words, "--manage-cgroups-mode", "x"), "invalid manage-cgroups-mode value")
    assert is_refused(bundle.oci(*words, "--empty-ns", "pid"), 'namespace "pid" is not supported')
    assert is_refused(bundle.oci(*words, "--page-server", "x"), "Use --page-server ADDRESS:PORT")
    assert state(bundle, "waits")["status"] == "running"


@needs("criu", "podman")
def test_podman_checkpoints_and_restores_through_us() -> None:
    podman = Podman()
    try:
        counting = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
        assert (
            podman("run", "-d", "--network", "none", "--name", "counts", "localhost/box", "sh", "-c", counting).code
            == 0
        )
        before = wait_until(lambda: there if len(there := podman("logs", "counts").out.split()) > 5 else None)
        for verb in ("checkpoint", "restore"):
            done = podman("container", verb, "counts")
            assert (done.code, done.err) == (0, ""), done
        wait_until(lambda: len(podman("logs", "counts").out.split()) > len(before) + 10)
        there = podman("logs", "counts").out.split()
        assert there == [str(number) for number in range(1, len(there) + 1)]
    finally:
        podman.remove()
