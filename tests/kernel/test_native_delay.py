"""Delay, jitter and loss of a container's network, measured with ping and iperf3 within a tenth.

Run where the kernel has sch_netem: under user-mode Linux, if this machine's has not.
"""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from backends.kernel import traffic
from backends.model import Guest
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.kernel.conftest import Run
from tests.tools.containers import log_of
from tests.tools.needs import facility, needs
from tests.tools.waiting import wait_until


@facility("netem")
def _netem(_: str) -> str:
    return traffic.why_no_netem()


pytestmark = [needs("root", "cgroup.cpu", "netem", "iperf3", "ping"), pytest.mark.timeout(120)]
R = Recorder("test")
SERVER = ("iperf3", "-s", "--forceflush")


def served(backend: NativeBackend, guest: Guest) -> Guest:
    """Return the guest once its iperf3 listens."""
    wait_until(lambda: "listening" in log_of(backend, guest), timeout_s=30)
    return guest


def pinged(guest: Guest, count: int, interval_s: float) -> tuple[float, float, float]:
    """Return the mean and the shortest of the round trips in seconds, and the share that was lost in hundredths."""
    line = ["ping", "-q", "-n", "-i", str(interval_s), "-c", str(count), "-W", "2", guest.addresses[0]]
    printed = subprocess.run(line, capture_output=True, text=True, check=False).stdout
    times = re.search(r"= ([0-9.]+)/([0-9.]+)/", printed)
    lost = re.search(r"([0-9.]+)% packet loss", printed)
    assert times, printed
    assert lost, printed
    return float(times[2]) / 1000, float(times[1]) / 1000, float(lost[1])


def iperf(guest: Guest) -> dict[str, float]:
    """Return what iperf3 says at the receiving end."""
    line = ["iperf3", "-J", "-c", guest.addresses[0], "-O", "1", "-t", "4"]
    printed = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    return dict(json.loads(printed)["end"]["sum_received"])


def test_a_round_trip_takes_so_much_longer_from_the_start_on(native: NativeBackend, run: Run) -> None:
    mean_s, _, lost_pct = pinged(run("sleep", "100", net_delay_s=0.1), 20, 0.05)
    assert mean_s == pytest.approx(0.1, rel=0.1)
    assert lost_pct == 0


def test_delay_and_jitter_change_while_it_runs_and_are_lifted(native: NativeBackend, run: Run) -> None:
    web = run("sleep", "100")
    before_s, _, _ = pinged(web, 10, 0.02)

    native.set_limits(web.ref, {"net_delay_s": 0.05, "net_jitter_s": 0.02}, R)
    mean_s, shortest_s, _ = pinged(web, 400, 0.02)
    assert mean_s - before_s == pytest.approx(0.05, rel=0.1)
    assert shortest_s - before_s == pytest.approx(0.03, rel=0.1)  # evenly spread from 30 to 70 ms

    native.set_limits(web.ref, {"net_delay_s": None, "net_jitter_s": None}, R)
    assert pinged(web, 10, 0.02)[0] < 0.02


def test_packets_are_lost_as_often_as_asked(native: NativeBackend, run: Run) -> None:
    web = run("sleep", "100", net_loss_pct=40.0)
    assert pinged(web, 2500, 0.002)[2] == pytest.approx(40, rel=0.1)  # four times the standard deviation
    native.set_limits(web.ref, {"net_loss_pct": None}, R)
    assert pinged(web, 100, 0.002)[2] == 0


def test_rate_and_delay_hold_together(native: NativeBackend, run: Run) -> None:
    web = served(native, run(*SERVER, net_rx_bytes_per_s=500_000, net_delay_s=0.02))
    assert pinged(web, 20, 0.02)[0] == pytest.approx(0.02, rel=0.15)
    assert iperf(web)["bits_per_second"] / 8 == pytest.approx(500_000, rel=0.1)
    native.set_limits(web.ref, {"net_delay_s": None}, R)
    assert iperf(web)["bits_per_second"] / 8 == pytest.approx(500_000, rel=0.1)
    counted = native.limit_evidence(web.ref)["net_rx_bytes_per_s"]
    assert counted.held_back > 0
