"""What every layer agrees that a guest is.

Frozen values only: they cross threads, processes and layers. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class GuestKind(StrEnum):
    """What sort of guest it is. The values are part of the JSON output."""

    CONTAINER = "container"
    VM = "vm"


class GuestState(StrEnum):
    """The life of a guest, in the words of the OCI runtime specification where it has them.

    ::

        creating → created → running ⇄ paused
                                ↓        ↓
                              stopping → stopped → (start) running
        restarting: it has ended, and its restart policy starts it again after a while → running
        lost: its keeper died and left processes behind; clean, start, kill or remove mends it
    """

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    RESTARTING = "restarting"
    LOST = "lost"
    UNKNOWN = "unknown"

    @property
    def is_live(self) -> bool:
        """True while the guest has processes or a virtual CPU of its own."""
        return self in _LIVE


_LIVE = frozenset({GuestState.RUNNING, GuestState.PAUSED, GuestState.STOPPING})


@dataclass(frozen=True, slots=True, order=True)
class GuestRef:
    """The name of a guest inside the program; stable while the guest exists, also over a rename."""

    backend: str
    """The registry name of its backend: "native", "libvirt", …"""

    id: str
    """The backend's own lasting identifier (container id, domain UUID)."""

    def __str__(self) -> str:
        return f"{self.backend}/{self.id}"


@dataclass(frozen=True, slots=True)
class DeviceIo:
    """Limits of one block device; None is unlimited."""

    device: str
    """Host device path (/dev/vda) for a container, target name (vda) for a VM."""

    read_bytes_per_s: int | None = None
    write_bytes_per_s: int | None = None
    read_ops_per_s: int | None = None
    write_ops_per_s: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a guest may use. None is "no limit" in every field."""

    cpus: float | None = None
    """CPU quota in cores: 0.5 is half of one core (cpu.max, cpu.cfs_quota_us, vcpu_quota)."""

    cpu_weight: int | None = None
    """Share under contention, 1 to 10000, kernel default 100 (cpu.weight). None: the default."""

    cpuset: str | None = None
    """CPUs it may run on, as a kernel list: "0-1,3" (cpuset.cpus)."""

    memory_bytes: int | None = None
    """Hard limit; above it the OOM killer acts (memory.max). For a VM the balloon target."""

    memory_high_bytes: int | None = None
    """Throttling limit; above it tasks are slowed and memory reclaimed (memory.high)."""

    swap_bytes: int | None = None
    """Swap on top of memory, not the sum (memory.swap.max)."""

    pids: int | None = None
    """Number of tasks (pids.max)."""

    io_read_bytes_per_s: int | None = None
    """On each of the guest's default devices (io.max rbps)."""

    io_write_bytes_per_s: int | None = None
    io_read_ops_per_s: int | None = None
    io_write_ops_per_s: int | None = None

    net_rx_bytes_per_s: int | None = None
    """What the guest receives, over each interface."""

    net_tx_bytes_per_s: int | None = None
    """What the guest sends, over each interface."""

    net_delay_s: float | None = None
    """How much later than sent it receives each packet, so that a round trip takes so much longer."""

    net_jitter_s: float | None = None
    """How much the delay differs from packet to packet, to either side."""

    net_loss_pct: float | None = None
    """Of the packets sent to it, those that never arrive: 0 to 100."""

    io_devices: tuple[DeviceIo, ...] = ()
    """Limits of named devices; they win over the four above."""

    def with_changes(self, changes: LimitChanges) -> Limits:
        """Return these limits with the named fields replaced; None lifts a limit."""
        return replace(self, **changes)


LimitChanges = Mapping[str, Any]
"""Field names of Limits to their new value; None lifts the limit. Absent fields stay."""


@dataclass(frozen=True, slots=True)
class LimitEvidence:
    """What the kernel has counted for a limit since it was set."""

    held_back: int
    """How often something had to wait for it."""

    dropped: int
    """What was thrown away for it: packets."""

    waiting_bytes: int
    """What waits for it now."""


@dataclass(frozen=True, slots=True)
class Guest:
    """One container or VM as its backend last saw it."""

    ref: GuestRef
    name: str
    """What the user calls it. Other people's text: clean it before it reaches a terminal."""

    kind: GuestKind
    state: GuestState
    image: str | None = None
    """Image of a container, machine or boot source of a VM; None where unknown."""

    created_s: float | None = None
    """Seconds since the epoch; None where the backend does not know."""

    started_s: float | None = None
    """Seconds since the epoch of the last start; None if it never ran or is unknown."""

    limits: Limits = field(default_factory=Limits)
    pid: int | None = None
    """First process on the host (init of a container, QEMU of a VM); None if not live."""

    cpu_count: int | None = None
    """Virtual CPUs of a VM; None for a container."""

    memory_total_bytes: int | None = None
    """Memory a VM was built with; None for a container."""

    exit_code: int | None = None
    """Of the last run: 0-255, 128+n for signal n; None while it runs or where unknown."""

    oom_kills: int | None = None
    """Processes that the OOM killer took in this or the last run; None where unknown."""

    note: str = ""
    """One short line that explains the state ("killed by SIGKILL", "supervisor died"); may be empty."""

    addresses: tuple[str, ...] = ()
    """IP addresses known to the backend."""

    networks: tuple[str, ...] = ()
    """Names of the networks it is on; empty where the backend does not know."""

    health: str = ""
    """"starting", "healthy" or "unhealthy" by its health check; empty where it has none."""

    restarts: int = 0
    """How often in a row its restart policy has started it again."""

    restart_policy: str = ""
    """"on-failure:3", "always" …; empty where it has none."""

    ports: tuple[str, ...] = ()
    """Published ports: "127.0.0.1:8080->80/tcp" each."""

    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One saved state of a guest."""

    name: str
    created_s: float
    parent: str | None = None
    """Name of the snapshot it descends from; None at the root of the tree."""

    is_current: bool = False
    """True for the one that the guest's present state descends from."""

    size_bytes: int | None = None
    with_memory: bool = False
    """True if it holds the memory of a running guest too."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class GuestProcess:
    """One process of a guest as the host sees it."""

    pid: int
    """On the host."""

    guest_pid: int | None
    """In the guest's own pid namespace; None where unknown."""

    user: str
    command: str
    """Other people's text."""

    state: str
    """One letter as in ps: R, S, D, T, Z, I."""

    cpu_time_s: float
    rss_bytes: int
    threads: int = 1


@dataclass(frozen=True, slots=True)
class LogLine:
    """A piece of what a guest printed."""

    time_s: float
    """Seconds since the epoch."""

    stream: str
    """"stdout", "stderr" or "console"."""

    data: bytes
    """Raw bytes as the guest wrote them, with the newline if it wrote one. Never print unfiltered."""


def short_ports(ports: Sequence[str]) -> str:
    """Return published ports for people, neighbours as a range: "8080->80/tcp, 9000-9005->9000-9005/tcp"."""
    rows: list[tuple[str, str, str, int, int, int]] = []
    texts: list[str] = []
    for port in ports:
        host, arrow, inside = port.partition("->")
        address, colon, number = host.rpartition(":")
        inner, slash, protocol = inside.partition("/")
        if not (arrow and number.isdecimal() and inner.isdecimal()):
            texts.append(port)
            continue
        outer, first = int(number), int(inner)
        if rows and rows[-1][:3] == (address + colon, slash, protocol):
            *_, before, inner_before, count = rows[-1]
            if (before + count, inner_before + count) == (outer, first):
                rows[-1] = (address + colon, slash, protocol, before, inner_before, count + 1)
                continue
        rows.append((address + colon, slash, protocol, outer, first, 1))
    texts += [
        f"{address}{_range(outer, count)}->{_range(first, count)}{slash}{protocol}"
        for address, slash, protocol, outer, first, count in rows
    ]
    return ", ".join(texts)


def _range(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}-{first + count - 1}"
