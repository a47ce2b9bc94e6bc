"""The way out and published ports, in a network namespace that plays the host, with another as a host beside it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backends.container import ContainerSpec
from backends.errors import InnkeeperError, StartFailed
from backends.kernel import linux, netlink, nft, rtnetlink
from backends.kernel.rtnetlink import Rtnetlink
from backends.model import Guest
from backends.native import nat, protocol
from backends.native.backend import NativeBackend, make
from backends.native.network import bridge_name
from backends.native.options.ports import Port
from backends.registry import BackendConfig
from backends.trace import Recorder
from tests.tools.needs import facility, needs
from tests.tools.waiting import wait_until


@facility("nat")
def _nat(_: str) -> str:
    """Say why this kernel translates no addresses, by trying it in a network namespace."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            linux.unshare(linux.CLONE_NEWNET)
            nft.run(nat.table_text("br0", "10.1.2.0/24", {"x": ("10.1.2.3", [Port(80, 80)])}))
        except (InnkeeperError, OSError) as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        reason = pipe.read()
    os.waitpid(pid, 0)
    return reason


pytestmark = [needs("root", "cgroup.cpu", "nat"), pytest.mark.timeout(120)]
R = Recorder("test")
SERVER = (
    "import socket; s = socket.create_server(('', 80))\nwhile True: c, a = s.accept(); c.send(a[0].encode()); c.close()"
)
HOST, OTHER = "192.168.77.1", "192.168.77.2"


@contextmanager
def other_host() -> Iterator[int]:
    """A network namespace on a link of this one; yields a process in it."""
    ready, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        linux.unshare(linux.CLONE_NEWNET)
        os.write(writing, b"x")
        signal.pause()
    os.read(ready, 1)
    with Rtnetlink() as route:
        route.do(rtnetlink.add_veth("out0", "out1", netns_pid=pid, mac="02:00:00:00:00:01"))
        route.do(rtnetlink.add_address(socket.if_nametoindex("out0"), HOST, 24))

    def configure() -> str:
        netlink.ConfigureLink("out1", OTHER, 24, HOST).run()
        return ""

    in_other(pid, configure)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def in_other(pid: int, body: Callable[[], str]) -> str:
    """Run on the other host; return what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        linux.setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), linux.CLONE_NEWNET)
        os.write(writing, body().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def asked(address: str, port: int) -> str:
    """Return what the server says to us: where we seem to come from; or why it does not."""
    try:
        with socket.create_connection((address, port), timeout=5) as sock:
            return sock.recv(100).decode()
    except OSError as error:
        return error.strerror or str(error)


def as_host(body: Callable[[NativeBackend, Path, int], None]) -> None:
    """Run with a backend in a network namespace of its own, of which nothing is left."""
    root = Path(tempfile.mkdtemp(prefix="inn-test-"))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            linux.unshare(linux.CLONE_NEWNET)
            netlink.LoopbackUp().run()
            backend = make(BackendConfig(root, root / "run"))
            backend.open()
            try:
                with other_host() as other:
                    body(backend, root, other)
            finally:
                for guest in backend.guests():
                    backend.remove(guest.ref, R, force=True)
                backend.clean(R)
                backend.shutdown()
                backend.close()
            assert nat.table_name(bridge_name(root, is_default=False)) not in nft.run("list tables")
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    shutil.rmtree(root)
    assert status == 0


def serve(backend: NativeBackend, *publish: str) -> Guest:
    """Start a container that says to each who connects where he seems to come from."""
    return backend.run(ContainerSpec("host", ("python3", "-c", SERVER), publish=publish), R)


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
        for text in ("80", "[::1]:8080:80", "1.2.3:80:80", "0:80"):
            with pytest.raises(InnkeeperError):
                backend.create(ContainerSpec("host", ("true",), publish=(text,)), R)

    as_host(body)
