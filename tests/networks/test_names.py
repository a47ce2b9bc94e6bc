"""Names of containers on a network resolve from its other containers, and what the resolver does for hostile ones."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends.kernel import linux
from backends.model import Guest
from backends.native.backend import NativeBackend
from backends.native.resolver import offer
from backends.native.resolver.server import NAME
from backends.network import Attachment
from backends.trace import Recorder
from tests.kernel.conftest import Run
from tests.tools.containers import log_of, now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(60)]
R = Recorder("test")
FUZZ_S = float(os.environ.get("INNKEEPER_FUZZ_S", "3"))
Show = Callable[..., str]

ASK = """
import socket, sys
for name in sys.argv[1:]:
    try:
        print(name, *sorted({found[4][0] for found in socket.getaddrinfo(name, 80, socket.AF_INET)}))
    except OSError as error:
        print(name, "?")
"""
SERVER = f"""
import socket, struct, threading
me = socket.gethostbyname(socket.gethostname())
def answer(data):
    end = data.index(b"\\0", 12) + 5
    return data[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + data[12:end] + bytes.fromhex("c00c00010001000000000004") + socket.inet_aton("192.0.2.7")
def tcp():
    s = socket.create_server((me, 53))
    while True:
        c, _ = s.accept(); d = c.recv(4096); a = answer(d[2:]); c.sendall(struct.pack("!H", len(a)) + a); c.close()
threading.Thread(target=tcp, daemon=True).start()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind((me, 53)); print("serves", flush=True)
while True:
    d, p = u.recvfrom(4096)
    u.sendto(answer(d), p)
"""  # fmt: skip # noqa: E501, F541


def asked(output_of: Show, guest: Guest, *names: str) -> dict[str, str]:
    """Return what each name resolves to in a container; "?": nothing."""
    printed = output_of(guest, f"python3 -c '{ASK}' {' '.join(names)}")
    return dict(line.partition(" ")[::2] for line in printed.splitlines())


def resolver_pid(root: Path) -> int:
    """Return the resolver of a state folder; 0 if there is none."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(root / "run" / offer.SOCKET))
            pid = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
    except OSError:
        return 0
    return pid if _name_of(pid) == NAME else 0


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_two_containers_reach_each_other_by_name_from_their_first_moment(native: NativeBackend, run: Run) -> None:
    web = run("python3", "-m", "http.server", "80", name="web")
    client = "import urllib.request, time; print(urllib.request.urlopen('http://web/etc/hostname').read().decode())"
    wait_until(lambda: _answers(web.addresses[0]))
    first = run("python3", "-c", client)
    native.wait(first.ref, timeout_s=20)
    assert log_of(native, first).strip() == web.ref.id[:12]


def _answers(address: str) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((address, 80)) == 0


def test_names_ids_and_the_host_resolve_and_addresses_have_names(
    native: NativeBackend, run: Run, output_of: Show
) -> None:
    web, other = run("sleep", "100", name="Web.1"), run("sleep", "100")
    (address,) = web.addresses
    gateway = native.places[0].record(web.ref.id).endpoints[0].gateway
    found = asked(output_of, other, "web.1", "WEB.1.bridge", web.ref.id, "host.internal")
    assert list(found.values()) == [address, address, address, gateway]
    name = output_of(other, f'python3 -c "import socket; print(socket.gethostbyaddr(\\"{address}\\")[0])"')
    assert name.strip() == "Web.1.bridge"


def test_a_name_follows_its_container(native: NativeBackend, run: Run, output_of: Show) -> None:
    web, other = run("sleep", "100", name="before"), run("sleep", "100")
    native.rename(web.ref, "after", R)
    found = asked(output_of, other, "before", "after")
    assert found == {"before": "?", "after": web.addresses[0]}
    native.kill(web.ref, R)
    native.wait(web.ref, timeout_s=10)
    wait_until(lambda: asked(output_of, other, "after") == {"after": "?"})
    native.start(web.ref, R)
    assert asked(output_of, other, "after") == {"after": web.addresses[0]}


def test_names_resolve_again_after_the_resolver_was_killed(
    root: Path, native: NativeBackend, run: Run, output_of: Show
) -> None:
    run("sleep", "100", name="web")
    other = run("sleep", "100")
    first = wait_until(lambda: resolver_pid(root))
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: resolver_pid(root) not in (0, first))
    assert asked(output_of, other, "web")["web"] != "?"
    os.kill(resolver_pid(root), signal.SIGKILL)  # the one after it comes a second later: there is no endless row
    wait_until(lambda: asked(output_of, other, "web")["web"] != "?")


def test_names_resolve_though_spawner_and_resolver_were_killed(
    root: Path, native: NativeBackend, run: Run, output_of: Show
) -> None:
    run("sleep", "100", name="web")
    other = run("sleep", "100")
    resolver = wait_until(lambda: resolver_pid(root))
    os.kill(procfs_parent(resolver), signal.SIGKILL)
    assert asked(output_of, other, "web")["web"] != "?"
    os.kill(resolver, signal.SIGKILL)
    run("true")  # the next start has a new spawner
    wait_until(lambda: resolver_pid(root) not in (0, resolver))
    assert asked(output_of, other, "web")["web"] != "?"


def procfs_parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_nothing_is_left_when_the_last_container_and_the_spawner_have_gone(
    root: Path, native: NativeBackend, run: Run
) -> None:
    guest = run("sleep", "100")
    resolver = wait_until(lambda: resolver_pid(root))
    native.remove(guest.ref, R, force=True)
    native.shutdown()
    wait_until(lambda: not _name_of(resolver))
    assert not (root / "run" / offer.SOCKET).exists()


def test_its_own_name_servers_are_asked_for_all_else(native: NativeBackend, run: Run, output_of: Show) -> None:
    server = run("python3", "-c", SERVER)
    wait_until(lambda: "serves" in log_of(native, server))
    web = run("sleep", "100", name="web")
    asking = run("sleep", "100", dns=server.addresses)
    assert asked(output_of, asking, "example.org", "web") == {"example.org": "192.0.2.7", "web": web.addresses[0]}
    by_tcp = "options use-vc"
    output_of(asking, f"echo '{by_tcp}' >> /etc/resolv.conf")
    assert asked(output_of, asking, "example.org", "web") == {"example.org": "192.0.2.7", "web": web.addresses[0]}


def test_name_servers_that_do_not_answer_hold_up_nobody_else(native: NativeBackend, run: Run, output_of: Show) -> None:
    web = run("sleep", "100", name="web")
    lonely = run("python3", "-c", ASK + "\nimport time; time.sleep(100)", "example.org", dns=("192.0.2.1",))
    assert asked(output_of, lonely, "web") == {"web": web.addresses[0]}


def test_one_that_answers_names_itself_is_left_the_port(native: NativeBackend, run: Run, output_of: Show) -> None:
    serve = "import socket; s = socket.create_server(('', 53)); print('mine', flush=True); s.accept()"
    for options in ({"publish": (f"127.0.0.1:{free_port()}:53",)}, {"dns": ("127.0.0.1",)}):
        guest = run("python3", "-c", serve, **options)
        wait_until(lambda guest=guest: "mine" in log_of(native, guest))  # type: ignore[misc]
        assert offer.ADDRESS not in output_of(guest, "cat /etc/resolv.conf")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_hosts_and_the_search_list_stay(native: NativeBackend, run: Run, output_of: Show) -> None:
    guest = run("sleep", "100", hosts=("db:10.9.8.7",))
    assert asked(output_of, guest, "db", "localhost") == {"db": "10.9.8.7", "localhost": "127.0.0.1"}
    host = Path("/etc/resolv.conf").read_text().splitlines()
    inside = output_of(guest, "cat /etc/resolv.conf").splitlines()
    assert inside[0] == "nameserver 127.0.0.11"
    assert [line for line in host if line.startswith("search")] == [
        line for line in inside if line.startswith("search")
    ]


def test_domains_and_options_of_its_own_take_the_place_of_the_hosts_with_and_without_the_resolver(
    native: NativeBackend, run: Run, output_of: Show
) -> None:
    run("sleep", "100", name="web")
    asked_for: dict[str, Any] = {"dns_search": ("one.example", "bridge"), "dns_options": ("ndots:2", "timeout:1")}
    own = ["search one.example bridge", "options ndots:2 timeout:1"]
    guest = run("sleep", "100", **asked_for)
    assert output_of(guest, "cat /etc/resolv.conf").splitlines() == ["nameserver 127.0.0.11", *own]
    lonely = run("sleep", "100", network="none", dns=("192.0.2.1",), **asked_for)
    assert output_of(lonely, "cat /etc/resolv.conf").splitlines()[-3:] == [*own, "nameserver 192.0.2.1"]
    native.network_connect(lonely.ref, Attachment("bridge"), R)
    assert output_of(lonely, "cat /etc/resolv.conf").splitlines() == ["nameserver 127.0.0.11", *own]
    none = run("sleep", "100", dns_search=(".",))
    assert "search" not in output_of(none, "cat /etc/resolv.conf")


@pytest.mark.timeout(FUZZ_S + 60)
def test_hostile_questions_change_nothing_for_others(
    root: Path, native: NativeBackend, run: Run, output_of: Show
) -> None:
    """INNKEEPER_FUZZ_S=600 does it for ten minutes."""
    web, hostile, other = run("sleep", "1000", name="web"), run("sleep", "1000"), run("sleep", "1000")
    resolver = wait_until(lambda: resolver_pid(root))
    before = fds_of(resolver), memory_of(resolver)
    child = os.fork()
    if child == 0:
        try:
            _attack(now(native, hostile).pid or 0, FUZZ_S)
        finally:
            os._exit(0)
    slowest_s, rounds = 0.0, 0
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        began_s = time.monotonic()
        assert asked(output_of, other, "web") == {"web": web.addresses[0]}
        slowest_s, rounds = max(slowest_s, time.monotonic() - began_s), rounds + 1
    wait_until(lambda: fds_of(resolver) <= before[0] + 2, timeout_s=30)
    print(f"{rounds} rounds, the slowest {slowest_s:.2f} s; memory {before[1]} → {memory_of(resolver)} KiB")
    assert resolver_pid(root) == resolver
    assert memory_of(resolver) < before[1] + 20_000


def fds_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private"))


def _attack(pid: int, seconds: float) -> None:
    linux.setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), linux.CLONE_NEWNET)
    chance, deadline = random.Random(7), time.monotonic() + seconds
    good = bytes.fromhex("abcd01000001000000000000") + b"\3web\0\0\1\0\1"
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    streams: list[socket.socket] = []
    while time.monotonic() < deadline:
        data = _twisted(good, chance)
        try:
            udp.sendto(data, (offer.ADDRESS, offer.PORT))
            udp.recv(4096)
        except OSError:
            pass
        if chance.random() < 0.01:
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((offer.ADDRESS, offer.PORT))
            streams.append(sock)
        for sock in streams[-20:]:
            try:
                length = len(data) if chance.random() < 0.5 else chance.randrange(65536)
                sock.send(length.to_bytes(2, "big") + data)
            except OSError:
                pass
        for sock in streams[:-20]:
            sock.close()
        del streams[:-20]


def _twisted(good: bytes, chance: random.Random) -> bytes:
    how = chance.randrange(6)
    if how == 0:
        return chance.randbytes(chance.randrange(600))
    data = bytearray(good)
    if how == 1:
        label = chance.randbytes(chance.randrange(1, 64))
        return bytes(data[:12]) + bytes((len(label),)) + label + b"\7invalid\0\0\1\0\1"
    if how == 2:
        return bytes(data[: chance.randrange(len(data))])
    if how == 3:
        return bytes(data[:12]) + b"\xc0\x0c\0\1\0\1"
    for _ in range(chance.randrange(1, 5)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)
