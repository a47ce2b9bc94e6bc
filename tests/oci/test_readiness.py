"""sd_notify through a container; what its program would say is said from the host, over the same socket."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oci.life import command, create, state
from tests.tools.bundles import Bundle
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = needs("root", "busybox")


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A service manager's socket, in the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "manager"))
        sock.settimeout(15)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "manager"))
        yield sock


def say(bundle: Bundle, name: str, text: str) -> None:
    """Say something as the container's program."""
    path = bundle.folder / "state" / name / "notify" / "notify.sock"
    wait_until(path.exists, what="the container's socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), str(path))


def test_a_start_returns_when_the_program_is_ready(bundle: Bundle, manager: socket.socket) -> None:
    create(bundle, "slow")
    with subprocess.Popen(command(bundle, "start", "slow")) as child:
        say(bundle, "slow", "STATUS=on its way")
        wait_until(lambda: state(bundle, "slow")["status"] == "running", what="a running program")
        assert child.poll() is None
        say(bundle, "slow", "STATUS=done\nREADY=1")
        told = manager.recv(1000).decode().split("\n")

    assert child.returncode == 0
    assert told == ["READY=1", f"MAINPID={state(bundle, 'slow')['pid']}"]


def test_in_the_foreground_it_is_passed_on_too(bundle: Bundle, manager: socket.socket) -> None:
    words = command(bundle, "run", "--bundle", str(bundle.folder), "fore")
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as child:
        say(bundle, "fore", "READY=1")
        told = manager.recv(1000).decode()
        pid = state(bundle, "fore")["pid"]
        os.kill(pid, 9)

    assert (told, child.returncode) == (f"READY=1\nMAINPID={pid}", 137)


def test_the_program_finds_the_socket(bundle: Bundle, manager: socket.socket) -> None:
    done = bundle.sh("echo $NOTIFY_SOCKET; ls -l $NOTIFY_SOCKET")

    assert done.out.split()[0] == "/run/notify/notify.sock"
    assert done.out.splitlines()[1].startswith("srwxrwxrwx")


def test_one_that_ends_before_it_is_ready_lets_start_return(bundle: Bundle, manager: socket.socket) -> None:
    bundle.process["args"] = ["true"]
    bundle.write()
    create(bundle, "brief")

    assert bundle.oci("start", "brief").code == 0
