"""Containers of `inn oci` in Innkeeper's own list."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.container import ExecSpec
from backends.errors import NotFound, TimedOut, Unsupported, WrongState
from backends.model import Guest, GuestState
from backends.oci import roots
from backends.ociguests.backend import OciGuests, make
from backends.ociguests.naming import naming_of
from backends.registry import BackendConfig
from backends.trace import Recorder
from tests.oci.life import create, has_status, running
from tests.tools.bundles import Bundle
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = needs("root", "busybox", "cgroup.memory", "cgroup.pids", "cgroup.freeze")


@pytest.fixture
def guests(bundle: Bundle, tmp_path: Path) -> Iterator[OciGuests]:
    """The backend, looking at the bundle's own root only."""
    (tmp_path / roots.FOLDER).mkdir()
    (tmp_path / roots.FOLDER / "one").symlink_to(bundle.folder / "state")
    backend = make(BackendConfig(tmp_path, tmp_path))
    backend.open()
    yield backend
    backend.close()


def only(backend: OciGuests) -> Guest:
    """Return the one guest that there is."""
    (guest,) = backend.guests()
    return guest


def test_a_container_of_any_root_is_known_while_it_is_there(bundle: Bundle) -> None:
    running(bundle, "known")
    at = str(bundle.folder / "state")
    during = at in roots.known("/run/innkeeper/oci-roots")
    bundle.oci("delete", "-f", "known")

    assert during
    assert at not in roots.known("/run/innkeeper/oci-roots")


def test_it_is_listed_through_its_life(bundle: Bundle, guests: OciGuests) -> None:
    assert guests.guests() == []
    create(bundle, "web")
    created = only(guests)
    guests.start(created.ref, Recorder("test"))
    live = only(guests)
    guests.pause(live.ref, Recorder("test"))
    paused = only(guests)
    guests.resume(live.ref, Recorder("test"))
    guests.kill(live.ref, Recorder("test"))
    has_status(bundle, "web", "stopped")
    stopped = only(guests)
    bundle.oci("delete", "web")

    assert [guest.state.value for guest in (created, live, paused, stopped)] == [
        "created",
        "running",
        "paused",
        "stopped",
    ]
    assert (live.name, live.ref, stopped.pid) == ("web", created.ref, None)
    assert live.pid is not None
    assert live.started_s is not None
    assert guests.guests() == []


def test_its_figures_are_read(bundle: Bundle, guests: OciGuests) -> None:
    bundle.process["args"] = ["sh", "-c", "while :; do :; done"]
    bundle.write()
    running(bundle, "busy")
    ref = only(guests).ref

    first = guests.sample()[ref]
    wait_until(lambda: (guests.sample()[ref].cpu_usage_ns or 0) > (first.cpu_usage_ns or 0), what="CPU time")

    assert first.pids == 1
    assert first.memory_bytes
    assert first.net_rx_bytes == 0


def test_its_processes_are_seen(bundle: Bundle, guests: OciGuests) -> None:
    running(bundle, "web")

    (process,) = guests.processes(only(guests).ref)

    assert (process.command, process.guest_pid) == ("sleep 1000", 1)


def test_limits_change_and_are_read_back(bundle: Bundle, guests: OciGuests) -> None:
    running(bundle, "web")
    ref = only(guests).ref

    now = guests.set_limits(ref, {"memory_bytes": 64 << 20, "pids": 30}, Recorder("test"))

    assert (now.memory_bytes, now.pids) == (64 << 20, 30)
    assert only(guests).limits == now


def test_a_stop_forces_after_the_time(bundle: Bundle, guests: OciGuests) -> None:
    running(bundle, "deaf")
    ref = only(guests).ref
    with pytest.raises(TimedOut):
        guests.wait(ref, timeout_s=0.1)

    guests.stop(ref, Recorder("test"), timeout_s=0.1)

    assert guests.wait(ref) is None
    assert only(guests).state == GuestState.STOPPED


def test_programs_run_inside(bundle: Bundle, guests: OciGuests) -> None:
    running(bundle, "web")
    reading, writing = os.pipe()
    with open(os.devnull, "rb") as null, os.fdopen(reading, "rb") as pipe:
        session = guests.exec(
            only(guests).ref, ExecSpec(("sh", "-c", "echo $A; exit 4"), env=("A=b",)), (null.fileno(), writing, writing)
        )
        os.close(writing)
        assert pipe.read() == b"b\n"
    assert session.wait() == 4
    session.close()


def test_a_program_inside_has_a_terminal_of_the_asked_size(bundle: Bundle, guests: OciGuests) -> None:
    running(bundle, "web")

    session = guests.exec(only(guests).ref, ExecSpec(("stty", "size"), terminal=True, size=(21, 71)))
    assert session.terminal_fd is not None
    shown = b""
    while b"71" not in shown:
        shown += os.read(session.terminal_fd, 1000)
    assert session.wait() == 0
    session.close()

    assert b"21 71" in shown


def test_what_only_its_maker_may_do_is_refused(bundle: Bundle, guests: OciGuests) -> None:
    create(bundle, "web")
    guest = only(guests)

    with pytest.raises(WrongState):
        guests.pause(guest.ref, Recorder("test"))
    with pytest.raises(Unsupported):
        guests.restart(guest.ref, Recorder("test"))
    assert guests.why_not("restart", guest)


def test_all_that_is_known_of_it_can_be_looked_at(bundle: Bundle, guests: OciGuests) -> None:
    running(bundle, "web")
    ref = only(guests).ref

    found = guests.inspect(ref)

    assert json.loads(json.dumps(found)) == found
    assert found["state"]["status"] == "running"
    assert found["config"]["process"]["args"] == ["sleep", "1000"]
    bundle.oci("delete", "-f", "web")
    with pytest.raises(NotFound):
        guests.inspect(ref)


def test_docker_and_podman_tell_names(tmp_path: Path) -> None:
    (tmp_path / "config.v2.json").write_text(json.dumps({"Name": "/shop", "Config": {"Image": "nginx"}}))
    mounts = [{"destination": "/etc/hostname", "source": str(tmp_path / "hostname")}]
    docker = naming_of("abc", {"mounts": mounts}, "/bundle")
    (tmp_path / "containers.json").write_text(
        json.dumps([{"id": "abc", "names": ["shop"], "metadata": '{"image-name": "nginx"}'}])
    )
    libpod = {"annotations": {"io.container.manager": "libpod"}}
    podman = naming_of("abc", libpod, str(tmp_path / "abc" / "userdata"))
    other = naming_of("abc", {"annotations": {"io.kubernetes.cri.container-name": "shop"}}, "/bundle")

    assert (docker.name, docker.image, docker.maker) == ("shop", "nginx", "docker")
    assert (podman.name, podman.image, podman.maker) == ("shop", "nginx", "podman")
    assert (other.name, other.maker) == ("shop", "kubernetes")
    assert naming_of("abc", {}, "/bundle").name == "abc"


def test_a_root_that_was_removed_as_a_whole_is_forgotten(bundle: Bundle, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    roots.remember(str(gone))
    gone.rmdir()

    running(bundle, "next")

    assert str(gone) not in roots.known("/run/innkeeper/oci-roots")
