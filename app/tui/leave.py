"""Ways out: signals, a terminal that is gone, and a hang that must not keep the process alive."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable

GRACE_S = 5.0
"""Time for an orderly end; after it the process ends anyway. Guests have keepers of their own."""

EXIT_CODES = {signal.SIGHUP: 129, signal.SIGTERM: 143, signal.SIGINT: 130}


def leave_in_time(code: int, grace_s: float = GRACE_S) -> None:
    """End the process with the code after the grace time if it is still there then."""

    def end() -> None:
        os._exit(code)

    timer = threading.Timer(grace_s, end)
    timer.daemon = True
    timer.start()


def on_signals(loop: asyncio.AbstractEventLoop, leave: Callable[[int], object]) -> None:
    """Call `leave` with the exit code on SIGTERM, SIGHUP and SIGINT."""
    for number, code in EXIT_CODES.items():
        loop.add_signal_handler(number, leave, code)
