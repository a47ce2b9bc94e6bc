"""What is set, what is wanted and what is impossible: the limits of the guests in the panel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.core.limits import LimitField
from backends.metrics import Rates
from backends.model import GuestRef, Limits
from widgets.glyphs import GLYPHS
from widgets.guest_card import uses
from widgets.guest_row import GuestRow
from widgets.limit_editor import LimitRow
from widgets.line import Line, Span, line
from widgets.text import clean
from widgets.units import percent

NOTHING = object()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a backend said of one guest's limits."""

    limits: Limits
    reasons: Mapping[str, str]
    """Field of Limits → why it cannot be set, or ""."""


class LimitBook:
    """The facts, and the values that were asked for and are not in force yet."""

    def __init__(self) -> None:
        self.facts: dict[GuestRef, Facts] = {}
        self._targets: dict[tuple[GuestRef, str], Any] = {}

    def want(self, ref: GuestRef, name: str, value: Any) -> None:
        """It was asked for: the next step goes on from here."""
        self._targets[ref, name] = value

    def give_up(self, ref: GuestRef, name: str) -> None:
        """It will not come."""
        self._targets.pop((ref, name), None)

    def settle(self, ref: GuestRef) -> None:
        """All that was asked for this guest is done, or failed."""
        self._targets = {key: value for key, value in self._targets.items() if key[0] != ref}

    def value(self, ref: GuestRef, name: str) -> Any:
        """What is wanted, else what is set; None is no limit."""
        wanted = self._targets.get((ref, name), NOTHING)
        return getattr(self.facts[ref].limits, name) if wanted is NOTHING else wanted

    def row(self, field: LimitField, guest: GuestRow | None) -> LimitRow:
        """A limit as the editor shows it; with its use where it is about one guest only."""
        values = {self.value(ref, field.name) for ref in self.facts}
        value = field.format(values.pop()) if len(values) == 1 else "differ"
        pending = any((ref, field.name) in self._targets for ref in self.facts)
        use = next((each for each in uses(guest) if each.name == field.name), None) if guest is not None else None
        return LimitRow(
            field.name,
            field.title,
            value,
            use.used if use else "",
            use.share if use else None,
            use.bite if use else "",
            clean(self._why_not(field)),
            field.meaning,
            pending,
        )

    def _why_not(self, field: LimitField) -> str:
        lacking = "this backend has no such limit"
        return next(filter(None, (facts.reasons.get(field.name, lacking) for facts in self.facts.values())), "")


def evidence(rates: Rates, oom_kills: int | None) -> Line:
    """Whether the limits bite now."""
    told: list[tuple[str, bool]] = []
    for title, value, alarm in (
        ("held back", rates.cpu_throttled_pct, 10.0),
        ("waits for CPU", rates.cpu_pressure_pct, 20.0),
        ("for memory", rates.memory_pressure_pct, 10.0),
        ("for disk", rates.io_pressure_pct, 20.0),
    ):
        if value is not None:
            told.append((f"{title} {percent(value)} %", value >= alarm))
    kills = rates.oom_kills if rates.oom_kills is not None else oom_kills
    if kills is not None:
        told.append((f"OOM kills {kills}", kills > 0))
    spans: list[Span] = [(" now ", "head")]
    for text, alarming in told:
        spans.append((f" {GLYPHS.warning + ' ' if alarming else ''}{text} ", "warn" if alarming else ""))
    return tuple(spans)


def names_line(names: Iterable[str]) -> Line:
    """Whose limits they are."""
    return line((f" {', '.join(names)}", "dim"))
