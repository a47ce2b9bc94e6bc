"""podman over `inn-oci`, with a store of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.engines import Podman, inspect
from tests.tools.needs import needs

pytestmark = [needs("root", "busybox", "podman"), pytest.mark.timeout(90)]

ALONE = ("--network", "none")


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """podman; everything of it is gone afterwards."""
    engine = Podman()
    try:
        yield engine
    finally:
        engine.remove()
    assert engine.mounts() == []
    assert engine.processes() == []


@pytest.fixture
def web(podman: Podman) -> Iterator[str]:
    """A container that runs."""
    done = podman("run", "-d", *ALONE, "--name", "web", "box", "sleep", "1000")
    assert done.code == 0, done
    yield "web"
    podman("rm", "-f", "-t", "0", "web")


@pytest.mark.parametrize(
    "words, code", [(("true",), 0), (("sh", "-c", "exit 3"), 3), (("nosuch",), 127), (("/etc",), 126)]
)
def test_run_ends_with_the_programs_code_or_podmans(podman: Podman, words: tuple[str, ...], code: int) -> None:
    done = podman("run", "--rm", *ALONE, "box", *words)

    assert done.code == code, done


def test_on_the_hosts_network_with_limits(podman: Podman) -> None:
    script = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; ls /sys/class/net"

    done = podman("run", "--rm", "--network", "host", "--pids-limit", "17", "box", "sh", "-c", script)

    assert done.out.split()[0] == "17", done
    assert set(done.out.split()[1:]) >= {"lo"}


def test_exec_pause_and_top(podman: Podman, web: str) -> None:
    done = podman("exec", "-u", "1000", "-w", "/tmp", web, "sh", "-c", "id -u; pwd; exit 4")
    missing = podman("exec", web, "nosuch")
    top = podman("top", web, "pid", "args")
    podman("pause", web)
    paused = inspect(podman, web, "State.Status")
    podman("unpause", web)

    assert (done.code, done.out.split()) == (4, ["1000", "/tmp"]), done
    assert missing.code == 127
    assert "sleep 1000" in top.out
    assert (paused, inspect(podman, web, "State.Status")) == ("paused", "running")


def test_a_stop_waits_for_the_programs_own_end(podman: Podman) -> None:
    script = 'trap "exit 7" TERM; while :; do sleep 0.05; done'
    podman("run", "-d", *ALONE, "--name", "polite", "box", "sh", "-c", script)

    podman("stop", "-t", "5", "polite")
    code = inspect(podman, "polite", "State.ExitCode")
    podman("rm", "polite")

    assert code == "7"


def test_what_it_prints_is_in_the_log(podman: Podman) -> None:
    podman("run", *ALONE, "--name", "logged", "box", "sh", "-c", "echo out; echo err >&2")

    done = podman("logs", "logged")
    podman("rm", "logged")

    assert (done.out, done.err) == ("out\n", "err\n")


def test_a_terminal_goes_through(podman: Podman) -> None:
    done = podman.in_terminal("$E run --rm --network none -t box sh -c 'tty; exit 5'")

    assert done.code == 5, done
    assert "/dev/pts/0" in done.out


def test_in_a_user_namespace(podman: Podman) -> None:
    maps = ["--uidmap", "0:200000:1000", "--gidmap", "0:200000:1000"]

    done = podman("run", "--rm", *ALONE, *maps, "box", "sh", "-c", "id -u; cat /proc/self/uid_map")

    assert done.out.split() == ["0", "0", "200000", "1000"], done


def test_nothing_is_left_of_one_that_is_removed(podman: Podman, web: str) -> None:
    long_id = inspect(podman, web, "Id")
    pid = inspect(podman, web, "State.Pid")
    assert Path(f"/run/innkeeper/oci/{long_id}").exists()

    podman("rm", "-f", "-t", "0", web)

    assert not Path(f"/run/innkeeper/oci/{long_id}").exists()
    assert not Path(f"/proc/{pid}/root/bin").exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"**/*{long_id}*"))
