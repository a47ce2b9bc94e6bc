"""What a backend promises that lets itself be measured against the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable


class BenchGuest(Protocol):
    """A guest that is there for a measurement, and gone after it."""

    title: str
    """"container", "VM (emulated)"."""

    start_s: float
    """From the request to the first program that runs in it."""

    disk_bytes: int
    """What it takes on the host's disk, its image included."""

    memory_bytes: int | None
    """What it takes of the host's memory while nothing runs in it; None where unknown."""

    disk_path: str
    """A file or block device in it that may be written over, on its own disk."""

    host_folder: str
    """The folder of the host whose disk that is on."""

    def run(self, line: str, *, timeout_s: float) -> str:
        """Run a shell line in it and return what it printed, both streams. Raises InnkeeperError if it failed."""
        ...


@runtime_checkable
class Benchmarking(Protocol):
    """The backend can make a guest to measure."""

    def bench_guest(self, programs: Sequence[str], say: Callable[[str], None]) -> AbstractContextManager[BenchGuest]:
        """Make a guest in which these programs of the host can be run by name. It has a way to the host's networks.

        May be called when open() failed. Raises Unsupported, BackendUnavailable with what is missing.
        """
        ...
