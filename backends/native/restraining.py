"""Limits of containers, in the kernel and on record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from backends.errors import (
    NotFound,
)
from backends.metrics import Sample
from backends.model import (
    Guest,
    GuestRef,
    LimitChanges,
    Limits,
)
from backends.native import limiting, spec
from backends.native.core import LIVE, NativeCore
from backends.trace import Recorder


class Restraining(NativeCore):
    """Reads and changes limits."""

    def limits(self, ref: GuestRef) -> Limits:
        """Return the limits in the kernel of a live container, those it will start with of another."""
        wanted = spec.limits_of(self._store.config(ref.id))
        group = self._group(ref.id)
        if self._guest(ref).state in LIVE and group.exists():
            with suppress(NotFound):
                return limiting.in_force(group.limits(), wanted)
        return wanted

    def set_limits(self, ref: GuestRef, changes: LimitChanges, recorder: Recorder) -> Limits:
        """Change limits, in the kernel at once if it is live, and in its config.json."""
        limiting.check_names(changes, self._host.reasons())
        with self._store.locked(ref.id):
            config = self._store.config(ref.id)
            wanted = spec.limits_of(config).with_changes(changes)
            live = self._guest(ref).state in LIVE
            group = self._group(ref.id)
            steps = group.limit_steps(wanted, group.limits() if live else Limits())
            if live:
                keep = Recorder("client", self._keeper(ref, recorder))
                limiting.apply(steps, keep)
            self._store.write_config(ref.id, spec.with_limits(config, wanted))
        self._roster.forget(ref.id)
        return self.limits(ref)

    def limit_fields(self, guest: Guest) -> Mapping[str, str]:
        """Return why each field cannot be set, or ""."""
        return limiting.fields(self._host.reasons())

    def limit_warnings(self, guest: Guest, changes: LimitChanges, last: Sample | None) -> Sequence[str]:
        """Say what a change would hurt."""
        return limiting.warnings(guest.name, changes, last)
