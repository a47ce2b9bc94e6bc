"""Wait for conditions, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T | None], timeout_s: float = 10.0, what: str = "") -> T:
    """Return the condition's first true value; AssertionError if none comes in time."""
    deadline, pause_s = time.monotonic() + timeout_s, 0.001
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {timeout_s:g} s: {what or condition}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)
