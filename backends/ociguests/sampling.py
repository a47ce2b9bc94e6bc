"""One cheap pass over all live containers: kept-open cgroup files, and the links of each one's own network."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from backends.errors import InnkeeperError
from backends.kernel.cgroup import CgroupReader, raise_file_limit
from backends.kernel.procfs import LinkCounters
from backends.metrics import Sample
from backends.model import GuestRef
from backends.ociguests.roster import Entry, Roster


class _Readers:
    """What is held open of one run of one container."""

    def __init__(self, counters: CgroupReader, links: LinkCounters | None) -> None:
        self.counters = counters
        self._links = links

    def read(self) -> Sample:
        received, sent = None, None
        if self._links is not None:
            with suppress(OSError):
                links = [pair for name, pair in self._links.read().items() if name != "lo"]
                received, sent = sum(pair[0] for pair in links), sum(pair[1] for pair in links)
        return self.counters.read(time.monotonic(), net_rx_bytes=received, net_tx_bytes=sent)

    def close(self) -> None:
        self.counters.close()
        if self._links is not None:
            self._links.close()


class Sampling:
    """The readers of the containers that live, kept from pass to pass."""

    def __init__(self) -> None:
        self._readers: dict[tuple[GuestRef, int | None], _Readers] = {}
        raise_file_limit()

    def read(self, live: Sequence[Entry], roster: Roster) -> Mapping[GuestRef, Sample]:
        """Read them all; one that ends meanwhile is left out, as is one without a group of its own."""
        samples = {}
        wanted = set()
        for entry in live:
            key = entry.guest.ref, entry.guest.pid
            wanted.add(key)
            try:
                readers = self._readers.get(key) or self._open(key, entry, roster)
                if readers is not None:
                    samples[entry.guest.ref] = readers.read()
            except InnkeeperError:
                self._drop(key)
        for key in self._readers.keys() - wanted:
            self._drop(key)
        return samples

    def _open(self, key: tuple[GuestRef, int | None], entry: Entry, roster: Roster) -> _Readers | None:
        group = roster.group(entry)
        if group is None:
            return None
        readers = self._readers[key] = _Readers(group.reader(), _links(entry.guest.pid))
        return readers

    def close(self) -> None:
        """Close all files."""
        for key in list(self._readers):
            self._drop(key)

    def _drop(self, key: tuple[GuestRef, int | None]) -> None:
        readers = self._readers.pop(key, None)
        if readers is not None:
            readers.close()


def _links(pid: int | None) -> LinkCounters | None:
    """Return the counters of a process's network; None where it is the host's own, or cannot be seen."""
    try:
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return None
        return LinkCounters(f"/proc/{pid}/net/dev")
    except OSError:
        return None
