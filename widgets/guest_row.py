"""What the table knows about one guest at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from backends.metrics import Rates
from backends.model import Guest, GuestRef

NO_RATES = Rates()


@dataclass(frozen=True, slots=True)
class GuestRow:
    """One guest with its latest figures."""

    guest: Guest
    name: str
    """As it is told to the user: unique, and already made harmless."""

    rates: Rates = NO_RATES
    group: str = ""
    """Heading it stands under when the table is grouped."""

    pending: str = ""
    """Title of the operation that runs on it now."""

    stale_s: float | None = None
    """Seconds since its backend last answered, coarse; None while it answers in time."""

    uptime_s: float | None = None
    cpu_shares: tuple[float | None, ...] = ()
    """The last CPU uses as shares of what the guest may use, oldest first."""

    @property
    def ref(self) -> GuestRef:
        return self.guest.ref

    @property
    def note(self) -> str:
        """One short text that explains the state, most urgent first."""
        if self.stale_s is not None:
            return f"no answer, was {self.guest.state.value}"
        if self.pending:
            return f"{self.pending} …"
        guest = self.guest
        told = guest.note
        if guest.health and guest.state.is_live:
            told = guest.health + (f", {told}" if told else "")
        if not told and not guest.state.is_live and guest.exit_code is not None:
            told = f"exit {guest.exit_code}"
        if self.rates.oom_kills or guest.oom_kills:
            told = f"OOM kills {self.rates.oom_kills or guest.oom_kills}" + (f", {told}" if told else "")
        return told
