"""Which backends there are: name → lazy import, ours and those of other packages.

Another package adds one with the entry-point group "innkeeper.backends"; the entry names a callable
that takes a BackendConfig and returns a Backend.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backends.base import Backend
from backends.errors import UsageError

GROUP = "innkeeper.backends"

_BUILT_IN = {
    "native": "backends.native.backend:make",
    "oci": "backends.ociguests.backend:make",
    "libvirt": "backends.libvirt.backend:make",
    "simulated": "backends.simulated.backend:make",
}

DEFAULT_NAMES = ("native", "oci", "libvirt")
"""Opened unless the user says otherwise; entry points of other packages are added to them."""


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """What a backend is told when it is made."""

    state_dir: Path
    """Where Innkeeper keeps what survives a reboot (/var/lib/innkeeper, or --root DIR)."""

    run_dir: Path
    """Where it keeps what does not (/run/innkeeper, or DIR/run)."""

    options: Mapping[str, str] = field(default_factory=dict)
    """Settings of this backend, for example {"uri": "qemu:///system"}."""


Factory = Callable[[BackendConfig], Backend]


def names() -> list[str]:
    """Return all backend names, ours first."""
    return [*_BUILT_IN, *sorted(_entry_points())]


def default_names() -> list[str]:
    """Return the names opened when the user does not choose."""
    return [*DEFAULT_NAMES, *sorted(_entry_points())]


def make(name: str, config: BackendConfig) -> Backend:
    """Make a backend, not opened. Raises UsageError for an unknown name."""
    if name in _BUILT_IN:
        return _load(_BUILT_IN[name])(config)
    entries = _entry_points()
    if name not in entries:
        raise UsageError(f"there is no backend {name!r}", hint="known: " + ", ".join(names()))
    return _load(entries[name])(config)


def prepare(names: Sequence[str], config: BackendConfig) -> None:
    """Do what backends need while this process has one thread: a plain user becomes root of a user namespace.

    Never raises for what cannot be: opening the backend says so.
    """
    if os.geteuid() != 0 and "native" in names:
        importlib.import_module("backends.native.rootless").prepare(config)


def _load(target: str) -> Factory:
    module, _, attribute = target.partition(":")
    found: Factory = getattr(importlib.import_module(module), attribute)
    return found


def _entry_points() -> dict[str, str]:
    from importlib.metadata import entry_points  # costs 20 ms: only where a name is asked for

    return {entry.name: entry.value for entry in entry_points(group=GROUP) if entry.name not in _BUILT_IN}
