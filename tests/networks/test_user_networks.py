"""Networks that users make: who reaches whom, in a namespace that plays the host with another host beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backends.container import ContainerSpec, ExecSpec
from backends.errors import AlreadyExists, Busy, Damaged, InnkeeperError, NotFound, StartFailed, UsageError
from backends.kernel import netlink, nft
from backends.model import Guest
from backends.native import nat, protocol
from backends.native.backend import NativeBackend
from backends.network import Attachment, NetworkSpec
from tests.tools.containers import now
from tests.tools.lan import HOST, OTHER, R, as_host, asked, in_other
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu", "nat"), pytest.mark.timeout(120)]

SERVER = """
import socket
s = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c, a = s.accept(); c.send(a[0].removeprefix("::ffff:").encode()); c.close()
"""
ASK = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3) as s: print(s.recv(99).decode())
except OSError as error: print(error.strerror or error)
"""


def serve(backend: NativeBackend, **options: object) -> Guest:
    """Start a container that says to each who connects where he seems to come from, and wait until it listens."""
    guest = backend.run(ContainerSpec("host", ("python3", "-c", SERVER), **options), R)  # type: ignore[arg-type]
    wait_until(lambda: ":0050 " in inside(backend, guest, "cat /proc/net/tcp6"), timeout_s=20)
    return now(backend, guest)


def idle(backend: NativeBackend, **options: object) -> Guest:
    """Start a container that does nothing."""
    guest = backend.run(ContainerSpec("host", ("sleep", "1000"), init=True, **options), R)  # type: ignore[arg-type]
    return now(backend, guest)


def inside(backend: NativeBackend, guest: Guest, line: str, *args: str) -> str:
    """Run a shell line in a container and return what it printed."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as pipe, open(os.devnull, "rb") as null:
        spec = ExecSpec(("sh", "-c", line, "sh", *args))
        session = backend.exec(guest.ref, spec, (null.fileno(), writing, writing))
        os.close(writing)
        text = pipe.read()
    session.wait()
    session.close()
    return text.strip()


def ask(backend: NativeBackend, guest: Guest, address: str, port: int = 80) -> str:
    """Return what a server says to a container, or why it does not answer."""
    return inside(backend, guest, 'exec python3 -c "$1" "$2" "$3"', ASK, address, str(port))


def bridges(backend: NativeBackend) -> list[str]:
    """Return the bridges of networks that are up."""
    return [each.name for each in backend.networks() if each.bridge and netlink.link_exists(each.bridge)]


def test_containers_of_one_network_reach_each_other_and_those_of_another_do_not() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        for name in ("red", "blue"):
            backend.network_create(NetworkSpec(name), R)
        server = serve(backend, name="server", network="red")
        friend, stranger = idle(backend, network="red"), idle(backend, network="blue")
        plain = idle(backend)
        assert ask(backend, friend, server.addresses[0]) == friend.addresses[0]
        for guest in (stranger, plain):
            assert "timed out" in ask(backend, guest, server.addresses[0])
        assert "." not in in_other(other, lambda: asked(server.addresses[0], 80))
        both = idle(backend, network="blue", networks=("red",))
        assert ask(backend, both, server.addresses[0]) == both.addresses[1]
        assert both.networks == ("blue", "red")

    as_host(body)


def test_a_bridge_is_up_while_somebody_is_on_it_and_a_network_in_use_stays() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        backend.network_create(NetworkSpec("red"), R)
        assert "red" not in bridges(backend)
        guest = idle(backend, network="red")
        assert "red" in bridges(backend)
        with pytest.raises(Busy):
            backend.network_remove("red", R)
        backend.stop(guest.ref, R, timeout_s=0)
        wait_until(lambda: "red" not in bridges(backend))
        with pytest.raises(Busy):
            backend.network_remove("red", R)  # it is on it, though it does not run
        backend.start(guest.ref, R)
        assert now(backend, guest).addresses == guest.addresses
        backend.remove(guest.ref, R, force=True)
        backend.network_remove("red", R)
        with pytest.raises(NotFound, match="red"):
            idle(backend, network="red")

    as_host(body)


def test_ipv6_works_at_once_between_containers_and_out_under_the_hosts_address() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        give_ipv6(other)
        backend.network_create(NetworkSpec("six", ("fd77:1::/64",)), R)
        server = serve(backend, network="six", publish=("8080:80", "[::]:8081:80"))
        friend = idle(backend, network="six")
        assert server.addresses[1] == "fd77:1::2"
        assert ask(backend, friend, "fd77:1::2") == "fd77:1::3"
        assert inside(backend, friend, "cat /proc/net/if_inet6 | grep -c fd77") == "1"
        assert in_other(other, lambda: asked("fd99::1", 8080)) == "fd99::2"
        assert in_other(other, lambda: asked("fd99::1", 8081)) == "fd99::2"
        assert in_other(other, lambda: asked(HOST, 8080)) == OTHER
        assert asked("fd99::1", 8080) == "fd99::1"
        assert asked("::1", 8080) == asked("::1", 8081) == "fd77:1::1"
        assert "refused" not in asked("localhost", 8080)
        outside = subprocess.Popen(["nsenter", "-t", str(other), "-n", sys.executable, "-c", SERVER])
        try:
            wait_until(lambda: asked("fd99::2", 80) == "fd99::1", timeout_s=20)
            assert ask(backend, friend, "fd99::2") == "fd99::1"
            assert ask(backend, friend, OTHER) == HOST
        finally:
            outside.kill()
            outside.wait()
        backend.remove(server.ref, R, force=True)
        assert "refused" in in_other(other, lambda: asked("fd99::1", 8080))

    as_host(body)


def give_ipv6(other: int) -> None:
    """Have addresses on the link to the other host."""
    for line in ("ip addr add fd99::1/64 dev out0 nodad",
                 f"nsenter -t {other} -n ip addr add fd99::2/64 dev out1 nodad"):  # fmt: skip
        subprocess.run(line.split(), check=True)


def test_an_internal_network_has_no_way_out_and_nobody_comes_in() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        backend.network_create(NetworkSpec("inner", internal=True), R)
        server = serve(backend, network="inner")
        friend = idle(backend, network="inner")
        assert ask(backend, friend, server.addresses[0]) == friend.addresses[0]
        assert inside(backend, friend, "grep -c 00000000.*0003 /proc/net/route") == "0"
        assert "nreachable" in ask(backend, friend, OTHER)
        with pytest.raises(UsageError, match="way out"):
            serve(backend, network="inner", publish=("8080:80",))

    as_host(body)


def test_fixed_addresses_are_had_once_and_come_back_after_a_restart() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        backend.network_create(NetworkSpec("red", ("10.44.0.0/24", "fd77:2::/64")), R)
        guest = idle(backend, network="name=red,ip=10.44.0.9,mac=02:00:00:00:00:99", ip6="fd77:2::9")
        assert guest.addresses == ("10.44.0.9", "fd77:2::9")
        assert inside(backend, guest, "cat /sys/class/net/eth0/address") == "02:00:00:00:00:99"
        with pytest.raises(AlreadyExists, match=r"10\.44\.0\.9"):
            idle(backend, network="red", ip="10.44.0.9")
        for wrong in ({"ip": "10.45.0.1"}, {"ip": "10.44.0.1"}, {"ip6": "fd77:3::1"}, {"ip": "moon"}):
            with pytest.raises(UsageError):
                idle(backend, network="red", **wrong)
        backend.restart(guest.ref, R, timeout_s=0)
        assert "10.44.0.9" in inside(backend, guest, "cat /proc/net/fib_trie")
        backend.remove(guest.ref, R, force=True)
        assert idle(backend, network="red", ip="10.44.0.9").addresses[0] == "10.44.0.9"

    as_host(body)


def test_a_running_container_is_put_on_a_network_and_taken_off_and_stays_so() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        backend.network_create(NetworkSpec("red", ("10.44.0.0/24",)), R)
        server, guest = serve(backend, network="red"), idle(backend)
        assert ask(backend, guest, server.addresses[0]) != "10.44.0.3"
        backend.network_connect(guest.ref, Attachment("red", aliases=("other",)), R)
        assert ask(backend, guest, server.addresses[0]) == "10.44.0.3"
        assert now(backend, guest).networks == ("bridge", "red")
        assert "10.44.0.3" in inside(backend, guest, "cat /etc/hosts")
        with pytest.raises(AlreadyExists):
            backend.network_connect(guest.ref, Attachment("red"), R)
        backend.restart(guest.ref, R, timeout_s=0)
        assert ask(backend, guest, server.addresses[0]) == "10.44.0.3"
        members = next(each for each in backend.networks() if each.name == "red").members
        assert [(member.guest, member.aliases) for member in members] == [(server.name, ()), (guest.name, ("other",))]
        backend.network_disconnect(guest.ref, "red", R)
        assert "eth1" not in inside(backend, guest, "ls /sys/class/net")
        assert "10.44.0.3" not in inside(backend, guest, "cat /etc/hosts")
        assert ask(backend, guest, server.addresses[0]) != "10.44.0.3"
        backend.network_disconnect(guest.ref, "bridge", R)
        assert inside(backend, guest, "ls /sys/class/net") == "lo"
        backend.network_connect(guest.ref, Attachment("red"), R)
        assert ask(backend, guest, server.addresses[0]) == "10.44.0.3"
        assert ask(backend, guest, OTHER) == "Connection refused"  # there is a way out
        assert "link" in {step.kind for step in backend.trace(guest.ref)}

    as_host(body)


def test_a_container_that_could_not_be_connected_is_as_it_was_with_its_ports() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        backend.network_create(NetworkSpec("six", ipv6=True), R)
        guest = serve(backend, publish=("8080:80",), sysctls=("net.ipv6.conf.default.disable_ipv6=1",))
        hosts = inside(backend, guest, "cat /etc/hosts")
        with pytest.raises(InnkeeperError, match="IPv6 is disabled"):
            backend.network_connect(guest.ref, Attachment("six"), R)
        assert in_other(other, lambda: asked(HOST, 8080)) == OTHER
        assert now(backend, guest).networks == ("bridge",)
        assert inside(backend, guest, "ls /sys/class/net").split() == ["eth0", "lo"]
        assert inside(backend, guest, "cat /etc/hosts") == hosts
        assert "six" not in bridges(backend)
        backend.network_remove("six", R)

    as_host(body)


def test_a_container_has_the_network_of_another_one_and_its_names() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        server = serve(backend, name="server")
        shared = ContainerSpec("host", ("sleep", "1000"), init=True, network="container:server")
        guest = backend.run(shared, R)
        assert ask(backend, guest, "127.0.0.1") == "127.0.0.1"
        for path in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/proc/sys/kernel/hostname"):
            assert inside(backend, guest, f"cat {path}") == inside(backend, server, f"cat {path}")
        assert inside(backend, guest, "readlink /proc/self/ns/net") == inside(
            backend, server, "readlink /proc/self/ns/net"
        )
        with pytest.raises(UsageError):
            backend.network_connect(guest.ref, Attachment("bridge"), R)
        backend.stop(guest.ref, R, timeout_s=0)
        backend.stop(server.ref, R, timeout_s=0)
        with pytest.raises(StartFailed, match="container server, which does not run"):
            backend.start(guest.ref, R)
        backend.start(server.ref, R)
        backend.start(guest.ref, R)
        wait_until(lambda: ask(backend, guest, "127.0.0.1") == "127.0.0.1", timeout_s=20)
        backend.remove(server.ref, R, force=True)
        with pytest.raises(StartFailed, match="removed"):
            backend.restart(guest.ref, R, timeout_s=0)
        with pytest.raises(NotFound):
            backend.create(ContainerSpec("host", network="container:nobody"), R)

    as_host(body)


def test_a_port_without_one_of_the_host_gets_a_free_one() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        guest = serve(backend, publish=("80", "127.0.0.1::80", "0.0.0.0:8080:80"))
        exposed = idle(backend, expose=("90", "91/udp"), publish_all=True, mac="02:00:00:00:00:99")
        assert [port.partition("->")[2] for port in exposed.ports] == ["90/tcp", "91/udp"]
        assert inside(backend, exposed, "cat /sys/class/net/eth0/address") == "02:00:00:00:00:99"
        free, loopback, _ = (port.partition("->")[0] for port in guest.ports)
        assert in_other(other, lambda: asked(HOST, int(free))) == OTHER
        assert asked("127.0.0.1", int(loopback.rpartition(":")[2])).count(".") == 3
        assert in_other(other, lambda: asked(HOST, 8080)) == OTHER

    as_host(body)


def test_a_container_reaches_a_published_port_of_another_network_and_its_own_but_not_the_hosts_loopback() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        backend.network_create(NetworkSpec("red"), R)
        server, stranger = serve(backend, network="red", publish=("8080:80",)), idle(backend)
        assert ask(backend, stranger, HOST, 8080) == stranger.addresses[0]
        assert ask(backend, server, HOST, 8080).count(".") == 3
        with socket.create_server(("127.0.0.1", 8099)):
            gateway = server.addresses[0].rpartition(".")[0] + ".1"
            assert "refused" in ask(backend, server, gateway, 8099)
            inside(backend, server, "echo")
            assert "refused" in ask(backend, server, "127.0.0.1", 8099)

    as_host(body)


def test_nobody_from_outside_reaches_what_is_not_published_even_with_a_route() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        server = serve(backend, publish=("127.0.0.1:8080:80",))
        subnet = server.addresses[0].rpartition(".")[0] + ".0/24"
        route = f"nsenter -t {other} -n ip route add {subnet} via {HOST}"
        subprocess.run(route.split(), check=True)
        assert "." not in in_other(other, lambda: asked(server.addresses[0], 80))

    as_host(body)


def test_rules_that_somebody_flushed_come_back_with_the_next_start_or_a_sweep() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        serve(backend, publish=("8080:80",))
        nft.run("flush ruleset")
        assert "refused" in in_other(other, lambda: asked(HOST, 8080))
        idle(backend)
        assert in_other(other, lambda: asked(HOST, 8080)) == OTHER
        nft.run("flush ruleset")
        assert backend.clean(R) == ["nftables rules: somebody had deleted them"]
        assert in_other(other, lambda: asked(HOST, 8080)) == OTHER

    as_host(body)


def test_all_rules_and_links_go_with_containers_whose_keepers_were_killed() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        backend.network_create(NetworkSpec("red", ipv6=True), R)
        guest = serve(backend, network="red", publish=("8080:80",))
        kill_all(root, guest)
        wait_until(lambda: not now(backend, guest).state.is_live)
        backend.clean(R)
        assert bridges(backend) == []
        assert nat.table_name(root / "run") not in nft.run("list tables")
        assert [name for _, name in socket.if_nameindex() if name.startswith("inn")] == []
        assert "refused" in in_other(other, lambda: asked(HOST, 8080))
        backend.start(guest.ref, R)
        wait_until(lambda: in_other(other, lambda: asked(HOST, 8080)) == OTHER, timeout_s=20)

    as_host(body)


def kill_all(root: Path, guest: Guest) -> None:
    """Kill the spawner and the supervisor of a container at once."""
    pids = []
    for path in (root / "run" / "spawner", root / "run" / "containers" / guest.ref.id / "control"):
        with protocol.connect(path, 5.0) as sock:
            pids.append(protocol.peer_pid(sock))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_udp_goes_to_the_new_container_at_once_when_a_port_changes_hands() -> None:
    code = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5300))\n"
        "while True: d, a = s.recvfrom(9); s.sendto(sys.argv[1].encode(), a)"
    )

    def body(backend: NativeBackend, root: Path, other: int) -> None:
        def answer() -> str:
            try:
                client.send(b"x")
                return client.recv(99).decode()
            except OSError as error:
                return str(error)

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(1)
            client.connect((HOST, 5353))
            for name in ("one", "two", "three"):
                spec = ContainerSpec("host", ("python3", "-c", code, name), publish=("5353:5300/udp",), init=True)
                guest = backend.run(spec, R)
                wait_until(lambda name=name: answer() == name, timeout_s=20)  # type: ignore[misc]
                backend.remove(guest.ref, R, force=True)

    as_host(body)


def test_two_state_folders_share_forwarding_and_the_last_one_turns_it_off() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        from backends.native.backend import make
        from backends.registry import BackendConfig

        forward = Path("/proc/sys/net/ipv4/ip_forward")
        forward.write_text("0")
        second = make(BackendConfig(root / "second", root / "second" / "run"))
        second.open()
        try:
            first_guest, second_guest = idle(backend), serve(second, publish=("8080:80",))
            assert forward.read_text() == "1\n"
            assert ask(backend, first_guest, second_guest.addresses[0]) != first_guest.addresses[0]
            with pytest.raises(StartFailed, match="another state folder"):
                serve(backend, publish=("127.0.0.1:8080:80",))
            backend.remove(first_guest.ref, R, force=True)
            backend.shutdown()
            assert forward.read_text() == "1\n"
            assert in_other(other, lambda: asked(HOST, 8080)) == OTHER
        finally:
            for guest in second.guests():
                second.remove(guest.ref, R, force=True)
            second.shutdown()
            second.close()
        assert forward.read_text() == "0\n"

    as_host(body)


def test_the_host_does_not_become_a_router_between_networks_that_it_kept_apart() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
        table = ("inet", nat.table_name(root / "run"), "forward")
        for line in ("link add far0 type veth peer name far1", "addr add 10.88.0.1/24 dev far0", "link set far0 up"):
            subprocess.run(["ip", *line.split()], check=True)
        server = serve(backend, publish=("8080:80",))
        assert in_other(other, lambda: asked(HOST, 8080)) == OTHER
        nft.run(f"add rule {' '.join(table)} iifname out0 oifname far0 counter")  # behind the one that drops
        nft.run(f"insert rule {' '.join(table)} iifname out0 oifname far0 counter")
        in_other(other, lambda: asked("10.88.0.7", 80))
        lines = [line for line in nft.run(f"list chain {' '.join(table)}").splitlines() if "counter" in line]
        assert ["packets 0 " in line for line in lines] == [False, True]
        assert now(backend, server).state.is_live

    as_host(body)


def test_the_plan_and_the_trace_tell_of_each_link() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        backend.network_create(NetworkSpec("six", ("10.44.0.0/24", "fd77:4::/64")), R)
        spec = ContainerSpec("host", ("true",), network="six", networks=("bridge",), publish=("8080:80",))
        plan = [step.by_hand() for _, step in backend.explain(spec)]
        assert any("fd77:4::2/64" in line and "ip route add default via fd77:4::1" in line for line in plan)
        assert any("masquerade" in line and "ip6 to [fd77:4::2]:80" in line for line in plan)
        guest = backend.run(spec, R)
        done = [step.by_hand for step in backend.trace(guest.ref)]
        assert len([line for line in done if "type veth" in line]) == 2
        found = backend.inspect(guest.ref)["network"]
        assert [each["network"] for each in found["networks"]] == ["six", "bridge"]
        assert json.dumps(found)

    as_host(body)


@pytest.mark.parametrize(
    "options",
    [
        {"network": "none", "networks": ("bridge",)},
        {"network": "host", "ip": "10.0.0.1"},
        {"network": "bridge", "networks": ("bridge",)},
        {"network": "name=bridge,moon=1"},
        {"network": "ip=10.0.0.1"},
        {"network": "../x"},
        {"network": "container:"},
        {"network": "container:x", "publish": ("80:80",)},
        {"network": "name=bridge,mac=01:00:00:00:00:00"},
        {"network": "bridge", "aliases": ("a b",)},
    ],
)
def test_networks_that_make_no_sense_are_refused_before_anything_is_made(options: dict[str, object]) -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        with pytest.raises(InnkeeperError):
            backend.create(ContainerSpec("host", ("true",), **options), R)  # type: ignore[arg-type]
        assert list((root / "leases").iterdir() if (root / "leases").exists() else []) == []

    as_host(body)


DOCKERS = """
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
"""
LIBVIRTS = """
table ip libvirt_network {
  chain guest_output { ip saddr 192.168.122.0/24 iif "lo" counter accept
    iifname "virbr0" counter reject
  }
  chain forward { type filter hook forward priority filter; policy accept; counter jump guest_output
  }
  chain guest_nat { type nat hook postrouting priority srcnat; policy accept;
    ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade
  }
}
table inet firewalld {
  chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
    ct state established,related accept
    ip6 daddr { ::/96, ::ffff:0.0.0.0/96 } reject
  }
}
"""


@pytest.mark.skipif(shutil.which("iptables-restore") is None, reason="iptables is not installed")
def test_rules_of_docker_libvirt_and_firewalld_are_byte_for_byte_the_same_before_and_after() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        subprocess.run(["iptables-restore"], input=DOCKERS, text=True, check=True)
        nft.run(LIBVIRTS)
        before = foreign_rules()
        assert "DOCKER-USER" in before
        assert "guest_nat" in before
        backend.network_create(NetworkSpec("red", ipv6=True), R)
        guest = serve(backend, network="red", networks=("bridge",), publish=("8080:80", "9090:90/udp"))
        assert foreign_rules() == before
        assert asked("127.0.0.1", 8080).count(".") == 3
        assert any("FORWARD" in found.found for found in backend.check() if found.name == "way out of containers")
        backend.network_disconnect(guest.ref, "red", R)
        backend.remove(guest.ref, R, force=True)
        assert foreign_rules() == before
        backend.shutdown()
        assert foreign_rules() == before

    as_host(body)


def foreign_rules() -> str:
    """Return all rules but ours, as nft and as iptables show them, without what was counted."""
    tables = [line.split() for line in nft.run("list tables").splitlines()]
    theirs = [(family, name) for _, family, name in tables if not name.startswith("innkeeper")]
    texts = [nft.run(f"list table {family} {name}") for family, name in theirs]
    saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    lines = [line for line in saved.splitlines() if not line.startswith("#")]
    return re.sub(r"packets \d+ bytes \d+|\[\d+:\d+\]", "", "\n".join([*texts, *lines]))


def test_many_containers_made_at_once_have_addresses_of_their_own_and_all_go() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        backend.network_create(NetworkSpec("red", ipv6=True), R)
        with ThreadPoolExecutor(4) as pool:
            guests = list(pool.map(lambda _: idle(backend, network="red", networks=("bridge",)), range(8)))
        taken = [address for guest in guests for address in guest.addresses]
        assert len(set(taken)) == len(taken) == 24
        assert len({each.link for network in backend.networks() for each in network.members}) == 16
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda guest: backend.remove(guest.ref, R, force=True), guests))
        assert bridges(backend) in ([], ["bridge"])
        assert [len(pool.leases()) for _, pool in backend._networks.pools()] == [0, 0]

    as_host(body)


def test_a_network_whose_file_is_damaged_is_told_of_and_removed_and_all_others_go_on() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        for name in ("red", "blue"):
            backend.network_create(NetworkSpec(name), R)
        guest = idle(backend, network="red")
        (root / "networks" / "red" / "network.json").write_text("")
        shown = {each.name: each for each in backend.networks()}
        assert "damaged" in shown["red"].note
        assert [member.guest for member in shown["red"].members] == [guest.name]
        assert shown["blue"].note == ""
        backend.network_create(NetworkSpec("green"), R)
        backend.restart(guest.ref, R, timeout_s=0)
        assert ask(backend, idle(backend, network="blue"), HOST, 80) == "Connection refused"
        with pytest.raises(Damaged, match="red"):
            idle(backend, network="red")
        with pytest.raises(Busy):
            backend.network_remove("red", R)
        assert backend.clean(R) == []
        backend.remove(guest.ref, R, force=True)
        backend.network_remove("red", R)
        assert "red" not in {each.name for each in backend.networks()}
        backend.network_create(NetworkSpec("red"), R)

    as_host(body)


def test_what_a_crash_left_of_addresses_is_mended() -> None:
    def body(backend: NativeBackend, root: Path, other: int) -> None:
        backend.network_create(NetworkSpec("red", ("10.44.0.0/24",)), R)
        guest = backend.create(ContainerSpec("host", ("true",), network="red"), R)
        leases = root / "networks" / "red" / "leases"
        (leases / "10.44.0.2").rename(leases / "10.44.0.77")  # on its way to another network, say
        (leases / "10.44.0.88").write_text("nobody")
        (root / "networks" / ".half").mkdir()
        backend.clean(R)
        assert {path.name for path in leases.iterdir()} == {"10.44.0.2"}
        assert not (root / "networks" / ".half").exists()
        assert backend.clean(R) == []
        assert now(backend, guest).addresses == ("10.44.0.2",)

    as_host(body)
