"""Names and limits of containers that are on several networks, on none at first, or on one without a way out."""

from __future__ import annotations

import socket

import pytest

from backends.native import shaping
from backends.native.backend import NativeBackend
from backends.network import Attachment, NetworkSpec
from backends.trace import Recorder
from tests.kernel.conftest import Run
from tests.networks.test_names import Show, asked
from tests.tools.containers import log_of, now
from tests.tools.iperf import rate
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(90)]
R = Recorder("test")
MB = 1_000_000


@pytest.fixture
def front(native: NativeBackend) -> str:
    """A network with IPv6."""
    return native.network_create(NetworkSpec("front", ipv6=True), R).name


@pytest.fixture
def back(native: NativeBackend) -> str:
    """A network without a way out."""
    return native.network_create(NetworkSpec("back", internal=True), R).name


def test_names_are_those_of_the_networks_that_the_asker_is_on(
    native: NativeBackend, run: Run, output_of: Show, front: str, back: str
) -> None:
    web = run("sleep", "100", name="web", network=front, networks=(f"name={back},alias=inner",))
    outside, inside = run("sleep", "100", network=front), run("sleep", "100", network=back)
    stranger = run("sleep", "100")
    on_front, on_back = (each.address for each in native.places[0].record(web.ref.id).endpoints)

    assert asked(output_of, outside, "web", "inner", "web.front", "web.back") == {
        "web": on_front, "inner": "?", "web.front": on_front, "web.back": "?",
    }  # fmt: skip
    assert asked(output_of, inside, "web", "inner") == {"web": on_back, "inner": on_back}
    assert asked(output_of, stranger, "web", "inner") == {"web": "?", "inner": "?"}
    six = output_of(
        outside, 'python3 -c "import socket; print(socket.getaddrinfo(\\"web\\", 1, socket.AF_INET6)[0][4][0])"'
    )
    assert six.strip() == native.places[0].record(web.ref.id).endpoints[0].address6


def test_names_come_and_go_with_connect_and_disconnect(
    native: NativeBackend, run: Run, output_of: Show, front: str
) -> None:
    web, other = run("sleep", "100", name="web", network=front), run("sleep", "100")
    lonely = run("sleep", "100", name="lonely", network="none")
    assert asked(output_of, other, "web", "w") == {"web": "?", "w": "?"}

    native.network_connect(other.ref, Attachment(front), R)
    native.network_connect(lonely.ref, Attachment(front, aliases=("w",)), R)
    found = asked(output_of, other, "web", "w", "lonely")
    assert found["web"] == web.addresses[0]
    assert found["w"] == found["lonely"] == now(native, lonely).addresses[0]
    wait_until(lambda: asked(output_of, lonely, "web")["web"] == web.addresses[0])

    native.network_disconnect(other.ref, front, R)
    assert asked(output_of, other, "web") == {"web": "?"}
    native.network_disconnect(other.ref, "bridge", R)
    native.network_connect(other.ref, Attachment(front), R)
    assert asked(output_of, other, "web") == {"web": web.addresses[0]}


def test_the_first_container_that_comes_to_a_network_finds_names_though_it_began_with_none(
    native: NativeBackend, run: Run, output_of: Show, front: str
) -> None:
    lonely = run("sleep", "100", name="lonely", network="none")
    native.network_connect(lonely.ref, Attachment(front, aliases=("other",)), R)
    (address, _) = now(native, lonely).addresses
    wait_until(lambda: asked(output_of, lonely, "lonely", "other") == {"lonely": address, "other": address})


def test_what_a_container_moves_is_counted_for_each_of_its_networks(
    native: NativeBackend, run: Run, front: str
) -> None:
    sink = "import socket; c, _ = socket.create_server(('', 80)).accept()\nwhile c.recv(65536): pass\nprint('all', flush=True)"  # noqa: E501
    guest = run("python3", "-c", sink + "; import time; time.sleep(100)", network=front, networks=("bridge",))
    wait_until(lambda: _answers_with(guest.addresses[0], b"x" * 1_000_000))
    wait_until(lambda: "all" in log_of(native, guest))
    networks = {each.name: each for each in native.networks()}
    (on_front,), (on_bridge,) = networks[front].members, networks["bridge"].members
    assert (on_front.rx_bytes or 0) > 1_000_000 > 100_000 > (on_bridge.rx_bytes or 0)
    assert (networks[front].rx_bytes, networks[front].tx_bytes) == (on_front.rx_bytes, on_front.tx_bytes)
    native.kill(guest.ref, R)
    native.wait(guest.ref, timeout_s=10)
    ((stopped,),) = (each.members for each in native.networks() if each.name == front)
    assert (stopped.rx_bytes, stopped.tx_bytes) == (None, None)


def _answers_with(address: str, data: bytes) -> bool:
    """Send it all, if somebody listens."""
    with socket.socket() as sock:
        if sock.connect_ex((address, 80)):
            return False
        sock.sendall(data)
        return True


def test_a_container_without_a_way_out_gets_none_through_names(
    native: NativeBackend, run: Run, output_of: Show, back: str
) -> None:
    server = run("python3", "-c", "import socket; u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                 "u.bind((socket.gethostbyname(socket.gethostname()), 53)); print('serves', flush=True); "
                 "print(u.recv(999), flush=True)", network=back)  # fmt: skip
    wait_until(lambda: "serves" in log_of(native, server))
    guest = run("sleep", "100", network=back, dns=server.addresses)
    assert asked(output_of, guest, "secret.example.org") == {"secret.example.org": "?"}
    assert "secret" not in log_of(native, server)


def test_a_container_in_the_network_of_another_finds_the_same_names(
    native: NativeBackend, run: Run, output_of: Show, front: str
) -> None:
    web = run("sleep", "100", name="web", network=front)
    run("sleep", "100", name="owner", network=front)
    guest = run("sleep", "100", network="container:owner")
    assert asked(output_of, guest, "web") == {"web": web.addresses[0]}


@pytest.mark.needs("iperf3")
def test_rates_hold_on_each_link_and_on_one_that_comes_later(
    native: NativeBackend, run: Run, front: str, back: str
) -> None:
    guest = run("iperf3", "-s", "--forceflush", networks=(front,), net_rx_bytes_per_s=2 * MB)
    wait_until(lambda: "listening" in log_of(native, guest))
    native.set_limits(guest.ref, {"net_tx_bytes_per_s": MB}, R)
    native.network_connect(guest.ref, Attachment(back), R)
    addresses = [each.address for each in native.places[0].record(guest.ref.id).endpoints]
    assert len(addresses) == len(shaping.links(native.places[0].record(guest.ref.id))) == 3
    for address in addresses:
        assert rate(address) == pytest.approx(2 * MB, rel=0.1)
    assert rate(addresses[-1], "-R") == pytest.approx(MB, rel=0.1)

    native.set_limits(guest.ref, {"net_rx_bytes_per_s": None, "net_tx_bytes_per_s": None}, R)
    assert rate(addresses[-1]) > 20 * MB
