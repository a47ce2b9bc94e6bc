"""Signals to processes that may have ended: by pidfd, after a look at the start time.

The standard `signal` module costs 4 ms (enum), so the names are a table here, and the C module below it sends.
"""

from __future__ import annotations

import os

from backends.oci.errors import NotRunning, OciError
from backends.oci.state import start_ticks

SIGKILL, SIGTERM = 9, 15

_BY_NUMBER = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU "
    "URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
_NAMES = _BY_NUMBER.split()
_OTHER = {"IOT": 6, "CLD": 17, "POLL": 29, "UNUSED": 31, "RTMIN": 34, "RTMAX": 64}


def number_of(text: str) -> int:
    """Return the number of "KILL", "SIGKILL", "kill", "9" or "RTMIN+3". Raises OciError."""
    if text.lstrip("-").isdigit():
        return int(text)
    name = text.upper().removeprefix("SIG")
    if name in _NAMES:
        return _NAMES.index(name) + 1
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    if base in _OTHER and (not sign or (base.startswith("RT") and offset.isdigit())):
        return _OTHER[base] + int(f"{sign}{offset}" or 0)
    raise OciError(f'unknown signal "{text}"')


def open_process(pid: int, ticks: int | None) -> int:
    """Return a pidfd of that very process; the caller closes it. Raises NotRunning."""
    try:
        fd = os.pidfd_open(pid)
    except (ProcessLookupError, ValueError, OSError):
        raise NotRunning("container not running") from None
    if start_ticks(pid) != ticks:
        os.close(fd)
        raise NotRunning("container not running")
    return fd


def send(pidfd: int, number: int) -> None:
    """Send a signal. Raises OSError (ESRCH when it has ended, EINVAL for a number that is none)."""
    try:
        from _signal import pidfd_send_signal  # type: ignore[import-not-found]
    except ImportError:
        from signal import pidfd_send_signal
    pidfd_send_signal(pidfd, number)


def has_ended_within(pidfd: int, timeout_s: float) -> bool:
    """Wait until the process has ended; a process that nobody has reaped has ended too."""
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
