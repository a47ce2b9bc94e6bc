"""The last sample, the last rates and the history of every guest."""

from __future__ import annotations

from collections.abc import Mapping

from backends.metrics import History, Rates, Sample, rates
from backends.model import GuestRef


class Figures:
    """Numbers by guest. Each backend's sampler writes its own guests, everybody may read."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._histories: dict[GuestRef, History] = {}
        self._samples: dict[GuestRef, Sample] = {}
        self._rates: dict[GuestRef, Rates] = {}

    def take(self, backend: str, samples: Mapping[GuestRef, Sample]) -> dict[GuestRef, Rates]:
        """Take over one pass of a backend and return the rates since the one before."""
        derived: dict[GuestRef, Rates] = {}
        for ref, sample in samples.items():
            derived[ref] = self._derive(ref, sample)
        for ref in [ref for ref in self._samples if ref.backend == backend and ref not in samples]:
            # Not live any more: its counters start anew next time. The history stays while the guest does.
            self._samples.pop(ref, None)
            self._rates.pop(ref, None)
        return derived

    def _derive(self, ref: GuestRef, sample: Sample) -> Rates:
        before = self._samples.get(ref)
        known = self._rates.get(ref)
        if before is not None and known is not None and sample.time_s <= before.time_s:
            return known
        point = rates(before, sample)
        self._samples[ref], self._rates[ref] = sample, point
        history = self._histories.get(ref)
        if history is None:
            history = self._histories[ref] = History(self._length)
        history.append(sample.time_s, point)
        return point

    def forget(self, ref: GuestRef) -> None:
        """Drop all that is kept of a guest that no longer exists."""
        self._histories.pop(ref, None)
        self._samples.pop(ref, None)
        self._rates.pop(ref, None)

    def history(self, ref: GuestRef) -> History:
        """Return its history; an empty one if nothing was sampled."""
        return self._histories.get(ref) or History(self._length)

    def latest(self, ref: GuestRef) -> Rates | None:
        """Return its newest rates; None if it is not live."""
        return self._rates.get(ref)

    def last_sample(self, ref: GuestRef) -> Sample | None:
        """Return its newest sample; None if it is not live."""
        return self._samples.get(ref)
