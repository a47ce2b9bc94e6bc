"""docker over `inn-oci`: a dockerd of its own for the whole module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.engines import Docker, inspect
from tests.tools.needs import needs

pytestmark = [needs("root", "busybox", "docker"), pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    """A running dockerd; everything of it is gone afterwards."""
    engine = Docker()
    try:
        yield engine
    finally:
        engine.remove()
    assert engine.mounts() == []
    assert engine.processes() == []


@pytest.fixture
def web(docker: Docker) -> Iterator[str]:
    """A container that runs."""
    done = docker("run", "-d", "--name", "web", "box", "sleep", "1000")
    assert done.code == 0, done
    yield "web"
    docker("rm", "-f", "web")


@pytest.mark.parametrize(
    "words, code, said",
    [
        (("sh", "-c", "echo hi; exit 0"), 0, ""),
        (("sh", "-c", "exit 3"), 3, ""),
        (("nosuch",), 127, "executable file not found in $PATH"),
        (("/bin/nosuch",), 127, "no such file or directory"),
        (("/etc",), 126, "is a directory"),
    ],
)
def test_run_ends_with_the_programs_code_or_dockers(
    docker: Docker, words: tuple[str, ...], code: int, said: str
) -> None:
    done = docker("run", "--rm", "box", *words)

    assert done.code == code, done
    assert said in done.err


def test_a_kill_is_137_and_a_stop_waits(docker: Docker, web: str) -> None:
    assert docker("kill", web).code == 0
    assert docker("wait", web).out == "137\n"

    assert docker("start", web).code == 0
    assert docker("stop", "-t", "1", web).code == 0
    assert inspect(docker, web, "State.Status") == "exited"


def test_exec_has_its_own_user_folder_and_code(docker: Docker, web: str) -> None:
    done = docker(
        "exec", "-u", "1000:50", "-w", "/tmp", "-e", "A=b", web, "sh", "-c", "id -u; id -g; pwd; echo $A; exit 4"
    )

    assert (done.code, done.out.split()) == (4, ["1000", "50", "/tmp", "b"]), done
    assert docker("exec", web, "nosuch").code in (126, 127)
    assert docker("exec", "-i", web, "cat", text="through").out == "through"


def test_what_it_prints_is_in_the_log(docker: Docker) -> None:
    docker("run", "--name", "logged", "box", "sh", "-c", "echo out; echo err >&2")

    done = docker("logs", "logged")
    docker("rm", "logged")

    assert (done.out, done.err) == ("out\n", "err\n")


def test_a_terminal_goes_through(docker: Docker) -> None:
    done = docker.in_terminal("$E run --rm -t box sh -c 'tty; exit 5'")

    assert done.code == 5, done
    assert "/dev/pts/0" in done.out


def test_exec_with_a_terminal(docker: Docker, web: str) -> None:
    done = docker.in_terminal("$E exec -t web sh -c 'tty; exit 6'")

    assert done.code == 6, done
    assert "/dev/pts/" in done.out


def test_limits_are_in_force_and_change(docker: Docker) -> None:
    options = ["--memory", "32m", "--pids-limit", "20", "--cpus", "0.5"]
    docker("run", "-d", "--name", "small", *options, "box", "sleep", "1000")
    try:
        before = inspect(docker, "small", "HostConfig.Memory")
        done = docker("update", "--memory", "64m", "--memory-swap", "128m", "--pids-limit", "30", "small")
        limits = docker("exec", "small", "sh", "-c", _LIMITS).out.split()
    finally:
        docker("rm", "-f", "small")

    assert before == str(32 << 20)
    assert done.code == 0, done
    assert limits == [str(64 << 20), "30"]


_LIMITS = """
cd /sys/fs/cgroup
cat memory/memory.limit_in_bytes memory.max 2>/dev/null
cat pids/pids.max pids.max 2>/dev/null
"""


def test_pause_top_and_stats(docker: Docker, web: str) -> None:
    top = docker("top", web)
    stats = docker("stats", "--no-stream", "--format", "{{.PIDs}}", web)
    docker("pause", web)
    paused = inspect(docker, web, "State.Status")
    docker("unpause", web)

    assert "sleep 1000" in top.out
    assert stats.out == "1\n"
    assert (paused, inspect(docker, web, "State.Status")) == ("paused", "running")


def test_init_reaps(docker: Docker) -> None:
    done = docker("run", "--rm", "--init", "box", "ps", "-o", "pid,comm")

    assert "docker-init" in done.out, done


def test_what_it_may_not_do(docker: Docker) -> None:
    script = "touch /x; touch /t/y && echo written; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; id -u"
    options = [
        "--read-only",
        "--tmpfs",
        "/t",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--user",
        "1000",
    ]

    done = docker("run", "--rm", *options, "box", "sh", "-c", script)

    assert "Read-only file system" in done.err
    assert done.out.split() == ["written", "CapEff:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2", "1000"], done


def test_an_end_for_want_of_memory_is_known(docker: Docker) -> None:
    docker("run", "--name", "hungry", "--memory", "16m", "box", "sh", "-c", "head -c 100m /dev/zero | tail -c 99m")

    killed = inspect(docker, "hungry", "State.OOMKilled")
    docker("rm", "hungry")

    assert killed == "True"


def test_nothing_is_left_of_one_that_is_removed(docker: Docker, web: str) -> None:
    long_id = inspect(docker, web, "Id")
    assert list(Path("/sys/fs/cgroup").glob(f"**/{long_id}"))

    docker("rm", "-f", web)

    assert not list(Path("/sys/fs/cgroup").glob(f"**/{long_id}"))
    roots = list(docker.folder.glob("exec/runtime-innkeeper/moby"))
    assert [name for root in roots for name in os.listdir(root)] == []
