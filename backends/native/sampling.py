"""One cheap pass over all live containers: kept-open cgroup files, and one read of the host's links."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from backends.errors import InnkeeperError
from backends.kernel.cgroup import Cgroup, CgroupHost, CgroupReader, raise_file_limit
from backends.kernel.procfs import LinkCounters
from backends.metrics import Sample
from backends.model import Guest, GuestRef


class Sampling:
    """The readers of the containers that live, kept from pass to pass."""

    def __init__(self, host: CgroupHost) -> None:
        self._host = host
        self._readers: dict[tuple[GuestRef, float | None], CgroupReader] = {}
        self._links = LinkCounters()
        self.oom_kills: dict[GuestRef, int | None] = {}
        """Of each container in the last pass."""

        raise_file_limit()

    def read(
        self, live: Sequence[tuple[Guest, Sequence[str]]], group_of: Callable[[str], Cgroup]
    ) -> Mapping[GuestRef, Sample]:
        """Read them all; one that ends meanwhile is left out."""
        links = self._links.read()
        samples = {}
        wanted = set()
        for guest, names in live:
            # A restarted container has a new cgroup of the same name: its start time tells the runs apart.
            key = guest.ref, guest.started_s
            wanted.add(key)
            # What the host's end sends is what the guest receives.
            own = [links[name] for name in names if name in links]
            received, sent = (sum(each[0] for each in own), sum(each[1] for each in own)) if own else (None, None)
            try:
                reader = self._readers.get(key)
                if reader is None:
                    reader = self._readers[key] = group_of(guest.ref.id).reader()
                samples[guest.ref] = reader.read(time.monotonic(), net_rx_bytes=sent, net_tx_bytes=received)
            except InnkeeperError:
                self._drop(key)
        for key in self._readers.keys() - wanted:
            self._drop(key)
        self.oom_kills = {ref: sample.oom_kills for ref, sample in samples.items()}
        return samples

    def close(self) -> None:
        """Close all files."""
        for key in list(self._readers):
            self._drop(key)
        self._links.close()

    def _drop(self, key: tuple[GuestRef, float | None]) -> None:
        reader = self._readers.pop(key, None)
        if reader is not None:
            reader.close()
