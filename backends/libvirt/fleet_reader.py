"""The list of guests and their samples, made from what libvirt, the cgroups and the links say."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping

from backends.errors import Unsupported
from backends.kernel.cgroup import CgroupHost, GuestVanished, detect
from backends.kernel.procfs import LinkCounters
from backends.libvirt.bulk import bulk_sample, read_bulk
from backends.libvirt.convert import HostFacts, Seen, guest_of, ref_of
from backends.libvirt.host import LibvirtHost
from backends.libvirt.qemu_process import find_pid, started_s
from backends.libvirt.sampling import VmReader
from backends.metrics import Sample
from backends.model import Guest, GuestRef

_LOOK_AGAIN_S = 10.0
"""How long a guest whose QEMU is not on this host is taken as remote before it is looked for again."""


class FleetReader:
    """Reads guests and samples of one host. Owns the readers of live guests; close() it."""

    def __init__(self, host: LibvirtHost) -> None:
        self._host = host
        self._cgroups = _cgroup_host()
        self._links = LinkCounters()
        self._readers: dict[str, VmReader] = {}
        self._not_here: dict[str, float] = {}
        self._oom_kills: dict[str, int | None] = {}
        self._lock = threading.Lock()

    @property
    def facts(self) -> HostFacts:
        """Return what the domains' XML means on this host."""
        is_v2 = self._cgroups is not None and self._cgroups.mode == "v2"
        return HostFacts(1.0 if is_v2 else 10.24, os.cpu_count() if self.is_local else None)

    @property
    def is_local(self) -> bool:
        """True if the guests are processes of this host."""
        return is_local_qemu(self._host.uri)

    def guests(self) -> list[Guest]:
        """Return all domains."""
        found = self._host.poll()
        self._host.refresh_details()
        with self._lock:
            self._drop_readers(found)
            return [self._guest(seen) for seen in found]

    def _guest(self, seen: Seen) -> Guest:
        reader = self._reader(seen) if seen.is_live else None
        return guest_of(
            seen,
            self._host.info(seen.uuid),
            self.facts,
            pid=reader.pid if reader else None,
            started_s=started_s(reader.pid) if reader else None,
            oom_kills=self._oom_kills.get(seen.uuid),
        )

    def reader_of(self, seen: Seen) -> VmReader | None:
        """Return the reader of a live local guest."""
        with self._lock:
            return self._reader(seen)

    def oom_kills(self, uuid: str) -> int | None:
        """Return what the last sample counted."""
        return self._oom_kills.get(uuid)

    def sample(self) -> Mapping[GuestRef, Sample]:
        """Return the counters of the live guests."""
        found = self._host.poll()
        now = time.monotonic()
        with self._lock:
            self._drop_readers(found)
            taps = self._links.read() if self.is_local else {}
            samples = {ref_of(seen.uuid): self._sample(seen, now, taps) for seen in found if seen.is_live}
            elsewhere = [seen for seen in found if seen.is_live and seen.uuid not in self._readers]
        samples |= self._sample_elsewhere(elsewhere)
        return {ref: sample for ref, sample in samples.items() if sample is not None}

    def _sample_elsewhere(self, guests: list[Seen]) -> dict[GuestRef, Sample | None]:
        """Sample guests whose QEMU is not on this host by libvirt's bulk call; without an answer there is none."""
        stats = self._host.details_call("read the guests' statistics", read_bulk) if guests else None
        now = time.monotonic()
        return {
            ref_of(seen.uuid): bulk_sample(now, stats[seen.uuid], self._host.info(seen.uuid))
            for seen in guests
            if stats is not None and seen.uuid in stats
        }

    def _sample(self, seen: Seen, now: float, taps: Mapping[str, tuple[int, int]]) -> Sample | None:
        reader = self._reader(seen)
        if reader is None:
            return None
        try:
            sample = reader.read(now, taps, self._host.info(seen.uuid))
        except GuestVanished:
            self._readers.pop(seen.uuid).close()
            return None
        self._oom_kills[seen.uuid] = sample.oom_kills
        return sample

    def _reader(self, seen: Seen) -> VmReader | None:
        reader = self._readers.get(seen.uuid)
        if reader is not None and not reader.is_current():
            # Going back to a snapshot replaces the QEMU of a guest that seems to run all along.
            self._readers.pop(seen.uuid).close()
            reader = None
        if reader is not None or not self.is_local:
            return reader
        if time.monotonic() < self._not_here.get(seen.uuid, 0.0):
            return None
        pid = find_pid(seen.uuid, seen.name)
        try:
            if pid is not None:
                reader = self._readers[seen.uuid] = VmReader(self._cgroups, pid)
                return reader
        except GuestVanished:
            return None
        self._not_here[seen.uuid] = time.monotonic() + _LOOK_AGAIN_S
        return None

    def _drop_readers(self, found: list[Seen]) -> None:
        live = {seen.uuid for seen in found if seen.is_live}
        for uuid in self._readers.keys() - live:
            self._readers.pop(uuid).close()
        for uuid in self._not_here.keys() - live:
            del self._not_here[uuid]

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for reader in self._readers.values():
                reader.close()
            self._readers.clear()


def is_local_qemu(uri: str) -> bool:
    """True for a QEMU driver on this host: qemu:///system, qemu+unix:///…, qemu:///session."""
    scheme, _, rest = uri.partition("://")
    return scheme in ("qemu", "qemu+unix") and rest.startswith("/")


def _cgroup_host() -> CgroupHost | None:
    try:
        return detect()
    except Unsupported:
        return None
