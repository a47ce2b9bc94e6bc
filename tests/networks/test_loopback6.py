"""Published ports at ::1, where a relay listens: what passes it, and that it goes with its container."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from backends.container import ContainerSpec
from backends.errors import StartFailed
from backends.model import Guest
from backends.native import protocol
from backends.native.backend import NativeBackend
from backends.native.relay.server import NAME
from backends.network import Attachment, NetworkSpec
from tests.networks.test_user_networks import inside, serve
from tests.tools.containers import log_of, now
from tests.tools.lan import HOST, OTHER, R, as_host, asked, in_other
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu", "nat"), pytest.mark.timeout(120)]

ECHO = """
import socket, threading
def echo(c):
    while data := c.recv(65536): c.sendall(data)
    c.sendall(b"that was all"); c.close()
def datagrams():
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("", 80))
    while True:
        data, peer = u.recvfrom(65535); u.sendto(data[::-1], peer)
threading.Thread(target=datagrams, daemon=True).start()
s = socket.create_server(("", 80)); print("serves", flush=True)
while True: threading.Thread(target=echo, args=(s.accept()[0],), daemon=True).start()
"""
LAST_WORDS = """
import socket, os
s = socket.create_server(("", 80)); print("serves", flush=True)
c, _ = s.accept(); c.recv(1); c.sendall(b"x" * 3_000_000); os._exit(0)
"""


def run(backend: NativeBackend, code: str, *publish: str, **options: object) -> Guest:
    """Start a container with a server, and wait until it listens."""
    spec = ContainerSpec("host", ("python3", "-c", code), publish=publish, **options)  # type: ignore[arg-type]
    guest = backend.run(spec, R)
    wait_until(lambda: "serves" in log_of(backend, guest), timeout_s=20)
    return guest


def keeper_of(root: Path, guest: Guest) -> int:
    """Return the supervisor of a container."""
    with protocol.connect(root / "run" / "containers" / guest.ref.id / "control", 5.0) as sock:
        return protocol.peer_pid(sock)


def relays(parent: int) -> list[int]:
    """Return the relays of a supervisor."""
    found = []
    for pid in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, ppid = (pid / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z" and (pid / "comm").read_text().strip() == NAME:
                found.append(int(pid.name))
    return found


def received(sock: socket.socket) -> bytes:
    """Return all that comes until the end."""
    parts = []
    while part := sock.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def test_much_passes_both_ways_at_once_and_each_side_may_end_first() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        guest = run(backend, ECHO, "8080:80")
        assert relays(keeper_of(root, guest)) == []  # nobody has asked yet
        data = os.urandom(1 << 20) * 20
        with socket.create_connection(("::1", 8080), timeout=30) as sock:
            wait_until(lambda: len(relays(keeper_of(root, guest))) == 1)

            def send() -> None:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            got = received(sock)
            sender.join()
        assert hashlib.sha256(got).digest() == hashlib.sha256(data + b"that was all").digest()
        many = [socket.create_connection(("::1", 8080), timeout=10) for _ in range(50)]
        for number, sock in enumerate(many):
            sock.sendall(b"%d" % number)
        assert [sock.recv(9) for sock in many] == [b"%d" % number for number in range(50)]
        for sock in many:
            sock.close()

    as_host(body)


def test_datagrams_are_answered_to_who_sent_them() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        run(backend, ECHO, "[::1]:5353:80/udp")
        senders = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(5)]
        for number, sock in enumerate(senders):
            sock.settimeout(10)
            sock.connect(("::1", 5353))
            sock.send(b"ab%d" % number)
        assert [sock.recv(99) for sock in senders] == [b"%dba" % number for number in range(5)]
        for sock in senders:
            sock.close()

    as_host(body)


def test_a_port_at_loopback_alone_is_reached_from_nowhere_else() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        backend.network_create(NetworkSpec("six", ipv6=True), R)
        guest = serve(backend, network="six", publish=("[::1]:8080:80", "[::1]::80"))
        _, free = (port.partition("->")[0] for port in guest.ports)
        assert asked("::1", 8080) == asked("::1", int(free.rpartition(":")[2])) != "Connection refused"
        assert "refused" in in_other(other, lambda: asked(HOST, 8080))
        assert "refused" in asked("127.0.0.1", 8080)
        with pytest.raises(StartFailed, match="8080/tcp"):
            serve(backend, publish=("[::]:8080:80",), network="six")

    as_host(body)


def test_a_program_that_listens_to_ipv4_alone_is_found_and_none_at_all_is_a_reset() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        backend.network_create(NetworkSpec("six", ipv6=True), R)
        run(backend, ECHO, "8080:80", "8080:80/udp", "8081:81", network="six")
        with socket.create_connection(("::1", 8080), timeout=10) as sock:
            sock.sendall(b"hello")
            assert sock.recv(9) == b"hello"
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            sock.connect(("::1", 8080))
            sock.send(b"hello")
            assert sock.recv(9) == b"olleh"
        assert "reset" in asked("::1", 8081)

    as_host(body)


def test_what_a_container_sent_at_its_end_arrives_and_the_port_is_free_at_once() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        guest = run(backend, LAST_WORDS, "8080:80")
        for _ in range(3):
            with socket.create_connection(("::1", 8080), timeout=10) as sock:
                sock.sendall(b"x")
                assert len(received(sock)) == 3_000_000
            assert backend.wait(guest.ref, timeout_s=10) == 0
            assert "refused" in asked("::1", 8080)
            backend.start(guest.ref, R)
            wait_until(lambda: ":0050 " in inside(backend, guest, "cat /proc/net/tcp"))

    as_host(body)


def test_nothing_listens_when_the_supervisor_was_killed_and_a_killed_relay_comes_back() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        guest = serve(backend, publish=("8080:80",))
        keeper = keeper_of(root, guest)
        for _ in range(3):
            assert asked("::1", 8080).count(".") == 3
            (relay,) = wait_until(lambda: relays(keeper))
            os.kill(relay, signal.SIGKILL)
            wait_until(lambda: relays(keeper) == [])
        assert asked("::1", 8080).count(".") == 3
        (relay,) = wait_until(lambda: relays(keeper))
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{relay}").exists(), timeout_s=20)
        wait_until(lambda: "refused" in asked("::1", 8080), timeout_s=20)

    as_host(body)


def test_the_port_follows_its_container_to_other_networks() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        backend.network_create(NetworkSpec("red", ("10.44.0.0/24",)), R)
        guest = serve(backend, publish=("8080:80",))
        assert asked("::1", 8080).startswith("10.209.")
        backend.network_connect(guest.ref, Attachment("red"), R)
        backend.network_disconnect(guest.ref, "bridge", R)
        assert asked("::1", 8080) == "10.44.0.1"
        assert in_other(other, lambda: asked(HOST, 8080)) == OTHER
        backend.restart(guest.ref, R, timeout_s=0)
        wait_until(lambda: asked("::1", 8080) == "10.44.0.1", timeout_s=20)
        backend.rename(guest.ref, "other", R)
        backend.remove(now(backend, guest).ref, R, force=True)
        assert "refused" in asked("::1", 8080)

    as_host(body)
