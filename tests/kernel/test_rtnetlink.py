"""Raw rtnetlink, in network namespaces made for it."""

from __future__ import annotations

import errno
import os
import socket
import traceback
from collections.abc import Callable, Iterator

import pytest

from backends.kernel import linux, netlink, rtnetlink
from backends.kernel.rtnetlink import Rtnetlink
from tests.tools.needs import needs

pytestmark = needs("root")


def in_namespace(body: Callable[[], None]) -> None:
    """Run in a fork with a network namespace of its own; its assertion errors come out as its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            linux.unshare(linux.CLONE_NEWNET)
            body()
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """A descriptor of another network namespace."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        linux.unshare(linux.CLONE_NEWNET)
        os.write(writing, b"x")
        os.close(writing)
        socket.socketpair()[0].recv(1)  # until killed
        os._exit(0)
    os.read(reading, 1)
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    yield fd
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    for held in (fd, reading, writing):
        os.close(held)


def test_a_bridge_is_made_with_its_address_and_deleted() -> None:
    def body() -> None:
        step = netlink.EnsureBridge("br-t", "10.9.8.1", 24)
        step.run()
        step.run()
        with Rtnetlink() as route:
            index = socket.if_nametoindex("br-t")
            assert (index, "10.9.8.1", 24) in route.addresses()
            assert ("10.9.8.0", 24) in route.routes()
        netlink.delete_link("br-t")
        assert "br-t" not in [name for _, name in socket.if_nameindex()]
        netlink.delete_link("br-t")

    in_namespace(body)


def test_a_pair_of_links_is_made_across_namespaces_and_carries_packets(elsewhere: int) -> None:
    def body() -> None:
        netlink.EnsureBridge("br-t", "10.9.8.1", 24).run()
        with Rtnetlink() as route:
            master = socket.if_nametoindex("br-t")
            pair = rtnetlink.add_veth("h0", "eth0", master=master, netns_fd=elsewhere, mac="02:00:00:00:00:07")
            route.do(pair)
        there = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            linux.setns(elsewhere, linux.CLONE_NEWNET)
            netlink.LoopbackUp().run()
            netlink.ConfigureLink("eth0", "10.9.8.2", 24, "10.9.8.1").run()
            server = socket.create_server(("10.9.8.2", 5000))
            there[1].send(b"r")
            server.accept()[0].send(b"hello")
            os._exit(0)
        assert there[0].recv(1) == b"r"
        with socket.create_connection(("10.9.8.2", 5000), timeout=10) as client:
            assert client.recv(10) == b"hello"
        os.waitpid(pid, 0)

    in_namespace(body)


def test_the_first_failure_of_several_requests_is_raised_and_the_socket_stays_usable() -> None:
    def body() -> None:
        with Rtnetlink() as route:
            with pytest.raises(OSError, match=r"[Dd]evice") as caught:
                route.do(rtnetlink.set_up("nobody"), rtnetlink.set_up("lo"))
            assert caught.value.errno == errno.ENODEV
            with pytest.raises(OSError, match=r"unreachable|invalid") as again:
                route.do(rtnetlink.add_default_route("10.1.2.3"))
            assert again.value.errno == errno.ENETUNREACH
            route.do(rtnetlink.add_bridge("br-t"))
            with pytest.raises(FileExistsError):
                route.do(rtnetlink.add_bridge("br-t"))

    in_namespace(body)


def test_a_link_is_put_on_a_bridge_and_taken_off() -> None:
    def body() -> None:
        with Rtnetlink() as route:
            pair = rtnetlink.add_veth("a", "b", mac="02:00:00:00:00:08")
            route.do(rtnetlink.add_bridge("br-t"), pair)
            bridge, link = socket.if_nametoindex("br-t"), socket.if_nametoindex("a")
            route.do(rtnetlink.set_master(link, bridge))
            assert netlink.links_of("br-t") == ["a"]
            route.do(rtnetlink.set_master(link, 0))
            assert netlink.links_of("br-t") == []

    in_namespace(body)
