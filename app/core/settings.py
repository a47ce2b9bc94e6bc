"""What the user chose for this run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.core.paths import Paths, paths_for
from backends import registry
from backends.errors import UsageError

DEFAULT_LIBVIRT_URI = "qemu:///system"
MIN_INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient the core is. Tests shorten it; users leave it."""

    early_s: float = 0.25
    """From the first sample to the second, so that the first rates come early."""

    list_every_s: float = 5.0
    """A list of guests that is costly to read is read at least this often."""

    quick_list_s: float = 0.02
    """A list read faster than this is read with each sample."""

    dirty_gap_s: float = 0.05
    """Between two readings that a backend asks for."""

    late_intervals: float = 2.0
    """A backend that has not answered for so many intervals is late."""

    lost_after_s: float = 5.0
    """And after this time it is lost."""

    backoff_first_s: float = 1.0
    backoff_most_s: float = 10.0
    """Wait before the next attempt to reconnect; doubles from the first to the most."""

    open_timeout_s: float = 10.0
    """How long a command waits for its backend to come up."""

    answer_within_s: float = 10.0
    """How long a command waits for one answer of a backend that is up."""

    stop_within_s: float = 2.0
    """How long leaving waits for threads."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All choices of one run."""

    paths: Paths
    backends: tuple[str, ...] = registry.DEFAULT_NAMES
    """Registry names, in the order in which they are opened and asked."""

    libvirt_uri: str = DEFAULT_LIBVIRT_URI
    interval_s: float = 1.0
    """Between two samples."""

    history_length: int = 600
    """Points kept for each guest."""

    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Backend name to further options of that backend."""

    pace: Pace = field(default_factory=Pace)

    def options_for(self, backend: str) -> dict[str, str]:
        """Return the options that one backend is made with."""
        base = {"uri": self.libvirt_uri} if backend == "libvirt" else {}
        return {**base, **self.options.get(backend, {})}


def settings_for(
    *,
    root: Path | None = None,
    backends: Sequence[str] | None = None,
    libvirt_uri: str | None = None,
    interval_s: float | None = None,
    options: Mapping[str, Mapping[str, str]] | None = None,
) -> Settings:
    """Join what was given with the environment and the defaults.

    Reads INNKEEPER_ROOT, INNKEEPER_BACKENDS ("native,libvirt"), INNKEEPER_LIBVIRT_URI and INNKEEPER_INTERVAL.
    Raises UsageError for a value that makes no sense.
    """
    environment = os.environ
    named = environment.get("INNKEEPER_BACKENDS", "")
    chosen = tuple(backends or (part.strip() for part in named.split(",") if part.strip()))
    return Settings(
        paths=paths_for(root),
        backends=_known(chosen) if chosen else tuple(registry.default_names()),
        libvirt_uri=libvirt_uri or environment.get("INNKEEPER_LIBVIRT_URI") or DEFAULT_LIBVIRT_URI,
        interval_s=interval_s if interval_s is not None else _interval(environment.get("INNKEEPER_INTERVAL", "1")),
        options=options or {},
    )


def _known(chosen: tuple[str, ...]) -> tuple[str, ...]:
    for name in chosen:
        if name not in registry.names():
            raise UsageError(f"there is no backend {name!r}", hint="known: " + ", ".join(registry.names()))
    return tuple(dict.fromkeys(chosen))


def _interval(text: str) -> float:
    from app.core.units import parse_duration

    return max(MIN_INTERVAL_S, parse_duration(text))
