"""libvirt's words for states become ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from backends.libvirt.domain_xml import DomainInfo, image_of
from backends.model import Guest, GuestKind, GuestRef, GuestState, Limits

BACKEND = "libvirt"

STATES: Mapping[int, GuestState] = MappingProxyType(
    {
        0: GuestState.UNKNOWN,
        1: GuestState.RUNNING,
        2: GuestState.RUNNING,  # "blocked" is a Xen word: it waits for something, and runs
        3: GuestState.PAUSED,
        4: GuestState.STOPPING,
        5: GuestState.STOPPED,
        6: GuestState.STOPPED,  # crashed
        7: GuestState.PAUSED,  # suspended by itself (ACPI S3)
    }
)

_NOTES: Mapping[tuple[int, int], str] = MappingProxyType(
    {
        (3, 2): "paused for a migration",
        (3, 3): "paused while it is saved",
        (3, 4): "paused while it is dumped",
        (3, 5): "paused by an I/O error",
        (3, 6): "paused by its watchdog",
        (3, 8): "paused while it shuts down",
        (3, 9): "paused for a snapshot",
        (3, 10): "paused: the guest panicked",
        (5, 2): "forced off",
        (5, 3): "crashed",
        (5, 4): "moved to another host",
        (5, 5): "saved; it will go on where it was",
        (5, 6): "failed to start",
        (5, 7): "taken back to a snapshot",
        (5, 8): "ended when its libvirtd did",
        (6, 0): "crashed",
        (6, 1): "the guest panicked",
        (7, 0): "suspended by itself",
    }
)


def state_of(number: int) -> GuestState:
    """Return our state for libvirt's virDomainState."""
    return STATES.get(number, GuestState.UNKNOWN)


def note_of(state: int, reason: int) -> str:
    """Explain a state by libvirt's reason for it; empty where there is nothing to explain."""
    return _NOTES.get((state, reason), "")


def ref_of(uuid: str) -> GuestRef:
    """Return the reference of the domain with this UUID."""
    return GuestRef(BACKEND, uuid)


@dataclass(frozen=True, slots=True)
class Seen:
    """A domain in one pass over the list."""

    uuid: str
    name: str
    state: int
    reason: int

    @property
    def is_live(self) -> bool:
        """True while there is a QEMU."""
        return state_of(self.state).is_live


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What of a host decides how its domains' XML reads in our units."""

    shares_per_weight: float
    """libvirt writes <shares> into the host's own file: cpu.weight (default 100) on v2, cpu.shares (1024) on v1."""

    cpus: int | None
    """CPUs of the host; None where unknown."""


def limits_of(info: DomainInfo, facts: HostFacts) -> Limits:
    """Return the limits in our units: a weight's default is 100, and what is the default counts as no limit."""
    shares, cpuset = info.limits.cpu_weight, info.limits.cpuset
    weight = None if shares is None else max(1, min(10_000, round(shares / facts.shares_per_weight)))
    if facts.cpus is not None and cpuset in (f"0-{facts.cpus - 1}", "0" if facts.cpus == 1 else None):
        cpuset = None
    return replace(info.limits, cpu_weight=None if weight == 100 else weight, cpuset=cpuset)


def guest_of(
    seen: Seen,
    info: DomainInfo | None,
    facts: HostFacts,
    *,
    pid: int | None,
    started_s: float | None,
    oom_kills: int | None = None,
) -> Guest:
    """Return the guest; `info` is None while its XML could not be read."""
    state = state_of(seen.state)
    note = note_of(seen.state, seen.reason)
    if info is None:
        return Guest(
            ref_of(seen.uuid), seen.name, GuestKind.VM, state, pid=pid, note=note or "its details are not known yet"
        )
    return Guest(
        ref=ref_of(seen.uuid),
        name=seen.name,
        kind=GuestKind.VM,
        state=state,
        image=image_of(info),
        started_s=started_s if state.is_live else None,
        limits=limits_of(info, facts),
        pid=pid if state.is_live else None,
        cpu_count=info.vcpus,
        memory_total_bytes=info.memory_max_bytes,
        oom_kills=oom_kills,
        note=note,
        labels=MappingProxyType(dict(info.labels)),
    )
