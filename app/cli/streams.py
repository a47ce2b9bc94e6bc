"""stdin, stdout and stderr as they were handed to us: perhaps closed, perhaps onto a full disk."""

from __future__ import annotations

import os
import sys


def open_standard_streams() -> None:
    """Fill the places of closed ones, so that no socket or file of ours ever becomes descriptor 0, 1 or 2.

    A closed stdin then is at its end; writing to a closed stdout or stderr fails as before, with EBADF.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest free number: this one
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def end_output() -> None:
    """Write out what is buffered; what cannot be written goes nowhere, and the interpreter ends without a complaint."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        silence(1)


def silence(number: int) -> None:
    """Send what is still written to a descriptor nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def write_all(number: int, data: bytes) -> None:
    """Write bytes as they are, all of them; a terminal that somebody set non-blocking is waited for."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(number, view) :]
        except BlockingIOError:
            _wait_writable(number)


def _wait_writable(number: int) -> None:
    import select

    select.select([], [number], [])
