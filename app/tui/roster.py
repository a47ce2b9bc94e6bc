"""What the screens show of the fleet, built once for all of them."""

from __future__ import annotations

import time

from app.core.workstation import BackendStatus, Workstation
from app.tui.messages import Batch
from app.tui.rows import build_rows
from backends.base import Backend
from backends.errors import BackendUnavailable
from backends.model import GuestRef
from widgets.guest_row import GuestRow

OWN_COST_EVERY_S = 2.0


class Roster:
    """The rows and the states of the backends as of the last update. Reads memory only, never a backend."""

    def __init__(self, station: Workstation) -> None:
        self.station = station
        self.rows: list[GuestRow] = []
        self.by_ref: dict[GuestRef, GuestRow] = {}
        self.statuses: tuple[BackendStatus, ...] = ()
        self.own_cpu_pct: float | None = None
        self.is_frozen = False
        self.wants_history = False
        """True while the table has room for the last CPU uses."""

        self.updated_s = 0.0
        self._cost_at_s = time.monotonic()

    def update(self, batch: Batch | None = None) -> None:
        """Look again; a frozen view keeps its rows."""
        self.updated_s = time.monotonic()
        self.statuses = self.station.statuses()
        if self.updated_s - self._cost_at_s >= OWN_COST_EVERY_S:
            self._cost_at_s = self.updated_s
            self.own_cpu_pct = self.station.own_cpu_pct()
        if not self.is_frozen or not self.rows:
            self.rows = build_rows(self.station, self.statuses, history=self.wants_history)
            self.by_ref = {row.ref: row for row in self.rows}

    def backend(self, ref: GuestRef) -> Backend | None:
        """The backend of a guest, or None while it is not up."""
        try:
            return self.station.backend(ref.backend)
        except BackendUnavailable:
            return None

    def name(self, ref: GuestRef) -> str:
        """What the guest is called, made harmless."""
        row = self.by_ref.get(ref)
        return row.name if row is not None else ref.id[:12]
