"""How fast a network is, by iperf3."""

from __future__ import annotations

import json
import subprocess

from tests.tools.waiting import wait_until


def rate(address: str, *options: str, seconds: int = 2) -> float:
    """Return the bytes per second at the receiving end of a TCP connection with the server at an address."""
    # The first second is left out, in which TCP looks for its pace.
    line = ["iperf3", "-J", "-c", address, "-O", "1", "-t", str(seconds), *options]

    def measured() -> float:
        """Nothing while the server has not let go of its last client yet."""
        printed = subprocess.run(line, capture_output=True, text=True, check=False).stdout
        found = json.loads(printed)["end"].get("sum_received")
        return float(found["bits_per_second"]) / 8 if found else 0.0

    return wait_until(measured, timeout_s=20)
