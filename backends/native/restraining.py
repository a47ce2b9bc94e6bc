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
    LimitEvidence,
    Limits,
)
from backends.native import limiting, shaping, spec
from backends.native.core import LIVE, NativeCore
from backends.native.record import ContainerRecord
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
        record = self._store.record(ref.id)
        limiting.check_names(changes, self._reasons(record))
        with self._store.locked(ref.id):
            config = self._store.config(ref.id)
            before = spec.limits_of(config)
            wanted = before.with_changes(changes)
            shaping.check(wanted, record.network)
            guest = self._guest(ref)
            live = guest.state in LIVE
            group = self._group(ref.id)
            steps = group.limit_steps(wanted, group.limits() if live else Limits())
            if live:
                keep = Recorder("client", self._keeper(ref, recorder))
                shaped = shaping.live_steps(shaping.links(record), guest.pid or 0, before, wanted)
                limiting.apply([*steps, *shaped], keep)
            self._store.write_config(ref.id, spec.with_limits(config, wanted))
        self._roster.forget(ref.id)
        return self.limits(ref)

    def limit_fields(self, guest: Guest) -> Mapping[str, str]:
        """Return why each field cannot be set, or ""."""
        record = None
        with suppress(NotFound):
            record = self._store.record(guest.ref.id)
        return limiting.fields(self._reasons(record))

    def _reasons(self, record: ContainerRecord | None) -> Mapping[str, str]:
        return {**self._host.reasons(), **shaping.reasons(record)}

    def limit_evidence(self, ref: GuestRef) -> Mapping[str, LimitEvidence]:
        """Return what the queues of its links have counted."""
        guest = self._guest(ref)
        if guest.state not in LIVE or not guest.pid:
            return {}
        limits = spec.limits_of(self._store.config(ref.id))
        return shaping.evidence(shaping.links(self._store.record(ref.id)), guest.pid, limits)

    def limit_warnings(self, guest: Guest, changes: LimitChanges, last: Sample | None) -> Sequence[str]:
        """Say what a change would hurt."""
        config = self._store.config(guest.ref.id) if "net_tx_bytes_per_s" in changes else {}
        capabilities = config.get("process", {}).get("capabilities", {}).get("effective", ())
        return [*limiting.warnings(guest.name, changes, last), *shaping.warnings(guest.name, capabilities, changes)]
