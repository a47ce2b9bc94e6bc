"""Rates and loss of containers' networks, measured with iperf3 and ping within a tenth."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable

import pytest

from backends.errors import Unsupported, UsageError
from backends.kernel import netlink, traffic
from backends.model import Guest, Limits
from backends.native import shaping
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.kernel.conftest import Run
from tests.tools.containers import log_of, now
from tests.tools.iperf import rate
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu", "iperf3", "ping"), pytest.mark.timeout(120)]
R = Recorder("test")
MB = 1_000_000
SERVER = ("iperf3", "-s", "--forceflush")


def served(backend: NativeBackend, guest: Guest) -> Guest:
    """Return the guest once its iperf3 listens."""
    wait_until(lambda: "listening" in log_of(backend, guest), timeout_s=10)
    return now(backend, guest)


@pytest.mark.parametrize("bytes_per_s", [200_000, 20 * MB])
def test_what_it_receives_and_sends_is_held_to_the_rates(native: NativeBackend, run: Run, bytes_per_s: int) -> None:
    guest = served(native, run(*SERVER, net_rx_bytes_per_s=bytes_per_s, net_tx_bytes_per_s=2 * bytes_per_s))
    seconds = 2 if bytes_per_s > MB else 8  # where iperf3's blocks of 128 KiB are no tenth of it
    assert rate(guest.addresses[0], seconds=seconds) == pytest.approx(bytes_per_s, rel=0.1)
    assert rate(guest.addresses[0], "-R", seconds=seconds) == pytest.approx(2 * bytes_per_s, rel=0.1)


def test_rates_change_while_it_runs_and_hold_after_a_restart(native: NativeBackend, run: Run) -> None:
    guest = served(native, run(*SERVER))
    assert rate(guest.addresses[0]) > 50 * MB

    native.set_limits(guest.ref, {"net_rx_bytes_per_s": 2 * MB, "net_tx_bytes_per_s": MB}, R)
    assert rate(guest.addresses[0]) == pytest.approx(2 * MB, rel=0.1)
    assert rate(guest.addresses[0], "-R") == pytest.approx(MB, rel=0.1)
    counted = native.limit_evidence(guest.ref)
    assert all(counted[name].held_back > 0 for name in ("net_rx_bytes_per_s", "net_tx_bytes_per_s"))

    native.restart(guest.ref, R, timeout_s=0.1)
    wait_until(lambda: log_of(native, guest).count("listening") > 1, timeout_s=10)
    assert rate(now(native, guest).addresses[0]) == pytest.approx(2 * MB, rel=0.1)

    native.set_limits(guest.ref, {"net_rx_bytes_per_s": None, "net_tx_bytes_per_s": None}, R)
    assert native.limit_evidence(guest.ref) == {}
    assert rate(guest.addresses[0]) > 50 * MB
    assert rate(guest.addresses[0], "-R") > 50 * MB


def test_packets_to_it_are_lost_as_often_as_asked(native: NativeBackend, run: Run) -> None:
    guest = now(native, run("sleep", "100", net_loss_pct=40.0, net_rx_bytes_per_s=100 * MB))
    assert lost_pct(guest, 3000) == pytest.approx(40, rel=0.1)  # more than four times the standard deviation
    native.set_limits(guest.ref, {"net_loss_pct": 60.0}, R)
    assert lost_pct(guest, 3000) == pytest.approx(60, rel=0.1)
    native.set_limits(guest.ref, {"net_loss_pct": None}, R)
    assert lost_pct(guest, 100) == 0


def lost_pct(guest: Guest, count: int) -> float:
    # Twenty under way at a time: one alone would be waited for ten milliseconds whenever it is lost.
    line = ["ping", "-q", "-n", "-f", "-l", "20", "-c", str(count), "-W", "1", guest.addresses[0]]
    printed = subprocess.run(line, capture_output=True, text=True, check=False).stdout
    found = re.search(r"([0-9.]+)% packet loss", printed)
    assert found, printed
    return float(found[1])


def test_a_change_that_cannot_be_made_leaves_all_as_it_was(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "100", net_rx_bytes_per_s=MB)
    os.kill(now(native, guest).pid or 0, signal.SIGSTOP)
    netlink.delete_link(native.places[0].record(guest.ref.id).endpoints[0].link)
    with pytest.raises(Exception, match="it has gone"):
        native.set_limits(guest.ref, {"net_rx_bytes_per_s": 2 * MB, "pids": 50}, R)
    assert native.limits(guest.ref) == Limits(net_rx_bytes_per_s=MB)


def test_what_cannot_be_limited_is_refused_in_one_line(native: NativeBackend, run: Run) -> None:
    with pytest.raises(Unsupported, match="--network none it has no link of its own"):
        run("true", network="none", net_rx_bytes_per_s=MB)
    guest = run("sleep", "100", network="host")
    assert "no link of its own" in native.limit_fields(now(native, guest))["net_tx_bytes_per_s"]
    with pytest.raises(Unsupported, match="no link of its own"):
        native.set_limits(guest.ref, {"net_tx_bytes_per_s": MB}, R)
    with pytest.raises(UsageError, match="at most"):
        run("true", net_rx_bytes_per_s=2**40)


def test_a_container_that_may_configure_its_network_is_told_of(native: NativeBackend, run: Run) -> None:
    plain, powerful = run("sleep", "100"), run("sleep", "100", cap_add=("NET_ADMIN",))
    change = {"net_tx_bytes_per_s": MB}
    assert native.limit_warnings(plain, change, None) == []
    assert "CAP_NET_ADMIN" in native.limit_warnings(powerful, change, None)[0]


@pytest.mark.skipif(not traffic.why_no_netem(), reason="this kernel can delay packets")
def test_without_network_emulation_a_delay_is_refused_and_says_what_is_missing(native: NativeBackend, run: Run) -> None:
    with pytest.raises(Unsupported, match="sch_netem"):
        run("true", net_delay_s=0.1)


def test_both_ways_of_setting_it_come_to_the_same(native: NativeBackend, run: Run) -> None:
    """At a start our own messages do it, on a live container pyroute2."""
    wishes = {"net_rx_bytes_per_s": 3 * MB, "net_loss_pct": 7.0}
    made, changed = run("sleep", "100", **wishes), run("sleep", "100")
    native.set_limits(changed.ref, wishes, R)
    told = [queueing(native, guest) for guest in (made, changed)]
    assert told[0] == told[1]
    assert "tbf" in told[0]
    assert "innkeeper-loss" in told[0]


def queueing(backend: NativeBackend, guest: Guest) -> str:
    """Return what tc(8) says of the host's end; a burst in ticks is rounded, and names differ."""
    (ends,) = shaping.links(backend.places[0].record(guest.ref.id))
    found = ""
    for words in (["qdisc"], ["filter"]):
        line = ["tc", *words, "show", "dev", ends.host, *(["egress"] if words == ["filter"] else [])]
        found += subprocess.run(line, capture_output=True, text=True, check=True).stdout
    return re.sub(r" (id|burst) \d+", "", found).replace(ends.host, "")


Show = Callable[[Guest, str], str]


def test_the_program_cannot_lift_what_it_may_send(native: NativeBackend, run: Run, output_of: Show) -> None:
    guest = run("sleep", "100", net_tx_bytes_per_s=MB)
    assert "tbf" in output_of(guest, "tc qdisc show dev eth0")
    assert "not permitted" in output_of(guest, "tc qdisc del dev eth0 root")
    assert "tbf" in output_of(guest, "tc qdisc show dev eth0")
