"""What every layer agrees that a named volume is: files that outlive the guests that use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class VolumeUser:
    """A guest that has a volume, whether it is live or not."""

    guest: str
    """Its name."""

    places: tuple[str, ...] = ()
    """Where it is mounted in the guest."""

    is_live: bool = False


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume with a name. How large it is costs a walk through its files: see Volumes.volume_size."""

    name: str
    created_s: float | None = None
    folder: str = ""
    """Where its files are on the host; empty if they are nowhere."""

    labels: Mapping[str, str] = field(default_factory=dict)
    users: tuple[VolumeUser, ...] = ()
    """By name."""

    note: str = ""
    """What is wrong with it: what is on record of it is damaged, say."""


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """What the user asks of a new volume."""

    name: str = ""
    """Empty: one is made up."""

    labels: Mapping[str, str] = field(default_factory=dict)
