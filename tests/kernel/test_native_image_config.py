"""What a container takes from its image's configuration, in docker's words."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends.container import ContainerSpec, HealthCheck
from backends.errors import UsageError
from backends.image import PruneOptions
from backends.model import Guest
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import log_of
from tests.tools.needs import needs
from tests.tools.oci_images import busybox_files, make_layout

pytestmark = [needs("root", "cgroup.cpu", "overlay", "busybox"), pytest.mark.shared_state, pytest.mark.timeout(120)]
Run = Callable[..., Guest]
Output = Callable[..., str]
R = Recorder("test")
Load = Callable[..., str]

BASE = busybox_files() | {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv/web:/bin/sh\n",
    "etc/group": b"root:x:0:\nstaff:x:50:web\n",
    **{f"bin/{name}": b"->busybox" for name in ("ls", "cat", "id", "pwd", "stat", "touch", "sleep", "env", "httpd")},
    "data/first": b"of the image\n",
    "data/inner/second": b"too\n",
}


@pytest.fixture
def load(native: NativeBackend, tmp_path: Path) -> Load:
    """Make an image with a configuration, in the words of image-spec, and return its name."""

    def make(name: str = "made", layers: tuple[dict[str, bytes], ...] = (BASE,), **config: Any) -> str:
        folder = tmp_path / name
        make_layout(folder, layers, name, **({"Cmd": ["sleep", "1000"], "Env": ["PATH=/bin"]} | config))
        native.image_load(str(folder), R)
        return name

    return make


def printed(native: NativeBackend, run: Run, image: str, *args: str, **options: Any) -> str:
    """Return what a container prints that ends by itself."""
    guest = run(*args, image=image, network="none", **options)
    native.wait(guest.ref, timeout_s=20)
    return log_of(native, guest)


def test_arguments_follow_the_entry_point_and_come_in_the_place_of_the_command(
    native: NativeBackend, run: Run, load: Load
) -> None:
    image = load(Entrypoint=["/bin/busybox", "echo", "entry"], Cmd=["command"])
    assert printed(native, run, image) == "entry command\n"
    assert printed(native, run, image, "mine") == "entry mine\n"
    assert printed(native, run, image, "b", entrypoint=("/bin/busybox", "echo", "a")) == "a b\n"
    with pytest.raises(UsageError, match="no program"):
        native.create(ContainerSpec(image, entrypoint=()), R)


def test_variables_user_folder_labels_and_stop_signal_are_the_images(
    native: NativeBackend, run: Run, load: Load, output_of: Output
) -> None:
    image = load(
        Env=["PATH=/bin", "A=image", "B=image"], User="web:staff", StopSignal="SIGUSR1",
        WorkingDir="/srv/not there/yet",
        Labels={"who": "image", "also": "image"},
    )  # fmt: skip
    guest = run(image=image, network="none", env=("B=mine", "C=mine"), labels={"who": "me"})
    assert output_of(guest, "echo $A $B $C $HOME; id -u; id -g; pwd").split("\n")[:4] == [
        "image mine mine /srv/web", "33", "50", "/srv/not there/yet",
    ]  # fmt: skip
    found = native.inspect(guest.ref)
    assert found["labels"] == {"who": "me", "also": "image"}
    other = run(image=image, network="none", user="0", cwd="/data", stop_signal="SIGINT")
    assert output_of(other, "id -u; pwd") == "0\n/data\n"
    signals = [native.places[0].record(one.ref.id).stop_signal for one in (guest, other)]
    assert signals == ["SIGUSR1", "SIGINT"]


def test_a_health_check_of_the_image_is_asked_unless_switched_off(native: NativeBackend, run: Run, load: Load) -> None:
    check = {"Test": ["CMD", "/bin/busybox", "true"], "Interval": 2_000_000_000, "Retries": 7}
    image = load(Healthcheck=check)
    guest = run(image=image, network="none")
    record = native.places[0].record(guest.ref.id)
    assert record.health_check == HealthCheck(("/bin/busybox", "true"), interval_s=2.0, retries=7)
    without = run(image=image, network="none", health=HealthCheck(()))
    assert native.places[0].record(without.ref.id).health_check is None


def test_a_volume_begins_with_what_the_image_has_there_and_is_kept_over_restarts(
    native: NativeBackend, run: Run, load: Load, output_of: Output, root: Path
) -> None:
    upper_layer = {"data/inner/second": b"changed\n", "data/third": b"above\n"}
    image = load(layers=(BASE, upper_layer), Volumes={"/data": {}, "/empty": {}})
    guest = run(image=image, network="none")
    assert output_of(guest, "cat /data/first /data/inner/second /data/third; ls -A /empty | wc -l") == (
        "of the image\nchanged\nabove\n0\n"
    )
    output_of(guest, "echo mine > /data/first; echo new > /empty/new")
    native.snapshot_create(guest.ref, "before", R)
    native.restart(guest.ref, R, timeout_s=0)
    assert output_of(guest, "cat /data/first /empty/new") == "mine\nnew\n"
    native.snapshot_restore(guest.ref, "before", R)
    assert output_of(guest, "cat /data/first") == "mine\n", "snapshots hold no volumes"
    folder = root / "containers" / guest.ref.id
    assert not (folder / "upper" / "data" / "new").exists()
    native.remove(guest.ref, R, force=True)
    assert not folder.exists()


def test_what_is_mounted_there_by_the_user_wins_over_the_images_volume(
    native: NativeBackend, run: Run, load: Load, output_of: Output, tmp_path: Path
) -> None:
    image = load(Volumes={"/data": {}, "/more": {}})
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "file").write_text("host")
    guest = run(image=image, network="none", volumes=(f"{ours}:/data", "/own"), tmpfs=("/more",))
    assert output_of(guest, "ls /data; ls /more; touch /own/x && echo writable").split() == ["file", "writable"]
    assert native.places[0].record(guest.ref.id).volumes == ["/own"]


def test_a_symlink_in_the_image_leads_no_volume_to_the_hosts_files(
    native: NativeBackend, run: Run, load: Load, output_of: Output, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("the host's")
    image = load(layers=(BASE, {"trap": b"->" + str(tmp_path).encode()}), Volumes={"/trap": {}})
    guest = run(image=image, network="none")
    assert "secret" not in output_of(guest, f"ls -A /trap {tmp_path}")


@needs("idmap")
def test_a_volume_of_a_container_with_users_of_its_own_belongs_to_them(
    native: NativeBackend, run: Run, load: Load, output_of: Output
) -> None:
    image = load(Volumes={"/data": {}})
    guest = run(image=image, network="none", userns="auto")
    line = "stat -c %u /data /data/first; touch /data/new && stat -c %u /data/new"
    assert output_of(guest, line).split() == ["0", "0", "0"]


def test_exposed_ports_are_published_at_free_ports_of_the_host(native: NativeBackend, run: Run, load: Load) -> None:
    image = load(ExposedPorts={"80/tcp": {}, "90": {}, "53/udp": {}}, Cmd=["httpd", "-f", "-p", "80", "-h", "/data"])
    first = run(image=image, publish_all=True)
    second = run(image=image, publish_all=True)
    publish = [native.places[0].record(guest.ref.id).publish for guest in (first, second)]
    assert [text.split(":")[1] for text in publish[0]] == ["80", "90", "53/udp"]
    assert not set(publish[0]) & set(publish[1])
    port = publish[0][0].split(":")[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/first", timeout=10) as answer:
        assert answer.read() == b"of the image\n"
    without = run(image=image, network="none", publish_all=True)
    assert native.places[0].record(without.ref.id).publish == []


def test_what_was_asked_for_is_kept_with_what_the_image_added(native: NativeBackend, load: Load, root: Path) -> None:
    guest = native.create(ContainerSpec(load(Cmd=["sleep", "5"], User="web"), network="none", env=("A=1",)), R)
    kept = json.loads((root / "containers" / guest.ref.id / "asked.json").read_text())["spec"]
    assert (kept["args"], kept["user"], kept["env"]) == (["sleep", "5"], "web", ["PATH=/bin", "A=1"])


def test_a_template_works_when_its_image_has_gone_and_lets_go_of_the_layers_in_the_end(
    native: NativeBackend, run: Run, load: Load, output_of: Output, root: Path
) -> None:
    image = load(Env=["PATH=/bin", "A=image"], Volumes={"/data": {}}, ExposedPorts={"80/tcp": {}})
    guest = run(image=image, network="none")
    output_of(guest, "echo mine > /data/first; echo 1 > /new")
    native.template_create(guest.ref, "kept", R)
    native.remove(guest.ref, R, force=True)
    native.image_remove(image, R)
    native.image_prune(PruneOptions(all=True), R)
    assert all(found.name != image for found in native.images())
    made = native.template_use("kept", None, R)
    native.start(made.ref, R)
    assert output_of(made, "echo $A; cat /data/first /new").split() == ["image", "mine", "1"]
    native.template_remove("kept", R)
    native.remove(made.ref, R, force=True)
    native.image_prune(PruneOptions(all=True), R)
    left = [path.name for name in ("layers", "saved") for path in (root / name).iterdir()]
    assert [name for name in left if "lock" not in name] == []


def test_what_only_mounts_have_made_is_no_difference_from_a_snapshot(
    native: NativeBackend, load: Load, output_of: Output
) -> None:
    guest = native.create(ContainerSpec(load(), network="none"), R)
    native.snapshot_create(guest.ref, "new", R)
    native.start(guest.ref, R)
    assert list(native.snapshot_diff(guest.ref, "new")) == []
    output_of(guest, "echo 1 > /data/mine")
    assert [f"{each.kind} {each.path}" for each in native.snapshot_diff(guest.ref, "new")] == [
        "C /data", "A /data/mine",
    ]  # fmt: skip
