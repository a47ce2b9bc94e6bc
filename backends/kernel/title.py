"""What ps and /proc/PID/cmdline show of this process."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def hide_arguments(title: str) -> None:
    """Show a title in the place of our arguments, which a container's processes could read in /proc.

    The kernel reads them from our own memory (proc_pid_cmdline(5)); Python has copies. Where that memory is not
    found, or too short for the title, they are only wiped.
    """
    with suppress(OSError, ValueError, IndexError):
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
        start, end = int(fields[45]), int(fields[46])
        if 0 < start < end:
            text = title.encode()[: end - start - 1]
            ctypes.memset(start, 0, end - start)
            ctypes.memmove(start, text, len(text))
