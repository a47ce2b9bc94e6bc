"""Offsets of a time namespace's clocks (time_namespaces(7))."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backends.kernel import rooted
from backends.kernel.mounts import KernelStep


@dataclass(frozen=True, slots=True)
class SetOffsets(KernelStep):
    """Set the clocks of a process's new time namespace, before the first process enters it."""

    pid: int
    """Who unshared it; its children will be in it."""

    offsets: Mapping[str, Mapping[str, Any]]
    """`linux.timeOffsets`: "monotonic" and "boottime", each with secs and nanosecs."""

    kind = "time"

    @property
    def text(self) -> str:
        """What is written: one clock a line."""
        return "".join(
            f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n" for clock, offset in self.offsets.items()
        )

    def describe(self) -> str:
        return "move the clocks: " + self.text.strip().replace("\n", ", ")

    def by_hand(self) -> str:
        seconds = (f"--{clock}={offset.get('secs', 0)}" for clock, offset in self.offsets.items())
        return "unshare --time " + " ".join(seconds)

    def run(self) -> None:
        if not self.offsets:
            return
        fd = rooted.open_in_proc(f"{self.pid}/timens_offsets", os.O_WRONLY)
        try:
            os.write(fd, self.text.encode())
        except OSError as error:
            said = os.strerror(error.errno or 0)
            if error.errno == errno.ERANGE:
                said += ": a clock would be before the host's start, or too far in the future"
            raise OSError(error.errno, f"cannot move the clocks: {said}") from error
        finally:
            os.close(fd)
