"""The way out and published ports, in a network namespace that plays the host, with another as a host beside it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from backends.container import ContainerSpec
from backends.errors import InnkeeperError, StartFailed
from backends.kernel import nft
from backends.native import protocol
from backends.native.backend import NativeBackend
from tests.tools.lan import HOST, OTHER, SERVER, R, as_host, asked, in_other, serve
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu", "nat"), pytest.mark.timeout(120)]


def test_a_published_port_answers_from_everywhere_and_no_longer_when_its_container_has_gone() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        foreign = "table ip foreign {\n\tchain theirs {\n\t\tip daddr 10.0.0.1 drop\n\t}\n}\n"
        nft.run(foreign)
        guest = serve(backend, "8080:80", "127.0.0.1:8081:80")
        wait_until(lambda: asked("127.0.0.1", 8080).count(".") == 3, timeout_s=20)
        assert asked(HOST, 8080).count(".") == 3
        assert asked("127.0.0.1", 8081).count(".") == 3
        assert in_other(other, lambda: asked(HOST, 8080)) == OTHER  # the client's own address stays in sight
        assert "refused" in in_other(other, lambda: asked(HOST, 8081))
        assert next(found for found in backend.guests() if found.ref == guest.ref).ports == (
            "8080->80/tcp", "127.0.0.1:8081->80/tcp",
        )  # fmt: skip
        backend.remove(guest.ref, R, force=True)
        assert "refused" in asked("127.0.0.1", 8080)
        assert "refused" in in_other(other, lambda: asked(HOST, 8080))
        assert nft.run("list table ip foreign") == foreign

    as_host(body)


def test_a_container_goes_out_under_the_hosts_address_and_forwarding_is_as_before_at_the_end() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        forward = Path("/proc/sys/net/ipv4/ip_forward")
        forward.write_text("0")
        server = subprocess.Popen(["nsenter", "--target", str(other), "--net", sys.executable, "-c", SERVER])
        code = f"import socket; print(socket.create_connection(('{OTHER}', 80), 10).recv(99).decode())"
        wait_until(lambda: asked(OTHER, 80) == HOST, timeout_s=20)
        guest = backend.run(ContainerSpec("host", ("python3", "-c", code)), R)
        assert backend.wait(guest.ref, timeout_s=30) == 0
        assert [line.data for line in backend.logs(guest.ref)] == [f"{HOST}\n".encode()]
        assert forward.read_text() == "1\n"
        server.kill()
        server.wait()
        backend.remove(guest.ref, R)
        backend.shutdown()
        assert forward.read_text() == "0\n"

    as_host(body)


def test_a_port_that_somebody_has_is_refused_before_anything_is_made() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        serve(backend, "8080:80")
        with pytest.raises(StartFailed, match="8080/tcp of the host is published by container"):
            serve(backend, "127.0.0.1:8080:80")
        with socket.create_server(("", 8090)), pytest.raises(StartFailed, match="8090/tcp of the host is in use"):
            serve(backend, "8090:80")
        serve(backend, "8090:80")

    as_host(body)


def test_ports_of_a_container_whose_supervisor_was_killed_are_gone_too() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        guest = serve(backend, "8080:80")
        wait_until(lambda: asked("127.0.0.1", 8080).count(".") == 3, timeout_s=20)
        with protocol.connect(root / "run" / "containers" / guest.ref.id / "control", 5.0) as sock:
            os.kill(protocol.peer_pid(sock), signal.SIGKILL)
        wait_until(lambda: "refused" in asked("127.0.0.1", 8080), timeout_s=20)
        wait_until(lambda: "dport 8080" not in nft.run("list ruleset"), timeout_s=20)

    as_host(body)


def test_what_cannot_be_published_is_said() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        for text in ("[::1]:8080:80/sctp", "[::]:8080:80", "1.2.3:80:80", "0:80"):
            with pytest.raises(InnkeeperError):
                backend.create(ContainerSpec("host", ("true",), publish=(text,)), R)

    as_host(body)
