"""`inn limit` changes limits; `inn limits` shows them beside present use and says whether they bite."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.cli.context import capability_of
from app.cli.figures import figure_text
from app.cli.guest_json import limits_json
from app.cli.operating import add_guests, add_trace_option, on_guests
from backends.base import Backend
from backends.capabilities import Evidencing, Limiting
from backends.errors import UsageError
from backends.model import Limits

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.core.limits import LimitField
    from app.core.workstation import Workstation
    from backends.metrics import Rates
    from backends.model import Guest, LimitEvidence

_USE = {
    "cpus": "cpu_pct",
    "memory_bytes": "memory_bytes",
    "memory_high_bytes": "memory_bytes",
    "swap_bytes": "swap_bytes",
    "pids": "pids",
    "io_read_bytes_per_s": "io_read_bytes_per_s",
    "io_write_bytes_per_s": "io_write_bytes_per_s",
    "io_read_ops_per_s": "io_read_ops_per_s",
    "io_write_ops_per_s": "io_write_ops_per_s",
    "net_rx_bytes_per_s": "net_rx_bytes_per_s",
    "net_tx_bytes_per_s": "net_tx_bytes_per_s",
}
"""Which field of Rates each limit holds down."""

_COUNTED = ("net_rx_bytes_per_s", "net_tx_bytes_per_s", "net_delay_s", "net_jitter_s", "net_loss_pct")
"""For these the kernel counts what they did."""

_NEAR = 0.95
"""Use above this share of a limit counts as being held back by it."""

_METAVARS = {"seconds": "TIME", "%": "PERCENT"}


def add_limit_options(parser: argparse.ArgumentParser) -> None:
    """Add one option for each limit."""
    from app.core.limits import LIMIT_FIELDS

    group = parser.add_argument_group("limits", "`none` lifts one; sizes count in 1024: 64M, 1.5G")
    for field in LIMIT_FIELDS.values():
        meaning = field.meaning.rstrip(".").replace("%", "%%")
        names = ("-m", field.option) if field.name == "memory_bytes" else (field.option,)
        device = "; DEVICE:VALUE for one device" if field.device_field else ""
        group.add_argument(
            *names,
            dest=f"limit_{field.name}",
            metavar=_METAVARS.get(field.unit, field.unit.upper()),
            default=None,
            help=f"{meaning}{device}",
            action="append",
        )


def given_limits(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Return (field name, text) of each limit option that was given."""
    from app.core.limits import LIMIT_FIELDS

    return [(name, text) for name in LIMIT_FIELDS for text in getattr(args, f"limit_{name}") or ()]


def limit_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn limit`."""
    parser.add_argument("--json", action="store_true", help="print the limits then in force, one object a line")
    add_trace_option(parser)
    add_limit_options(parser)
    add_guests(parser)


def limit_verb(args: argparse.Namespace, context: Context) -> int:
    """Change limits of guests, at once."""
    from app.core.limits import parse_changes

    texts = given_limits(args)
    if not texts:
        raise UsageError("limit: which limit is to be changed?", hint="See inn limit --help")
    parse_changes(texts)  # what makes no sense is said before any backend is opened

    def changes_for(station: Workstation, guest: Guest) -> Mapping[str, object]:
        changes = parse_changes(texts, guest.limits)
        _warn(context, station, guest, changes)
        return changes

    def done(name: str, result: object) -> None:
        if args.json and isinstance(result, Limits):
            context.out.json_line({"guest": name, "limits": limits_json(result)})
        else:
            context.out.line(name)

    return on_guests(context, "guest.limit", args.guests, arguments=changes_for, done=done, trace=args.trace)


def _warn(context: Context, station: Workstation, guest: Guest, changes: Mapping[str, Any]) -> None:
    def warnings(backend: Backend) -> Sequence[str]:
        if not isinstance(backend, Limiting):
            return ()
        last = backend.sample().get(guest.ref) if guest.state.is_live else None
        return backend.limit_warnings(guest, changes, last)

    shown = station.fleet.display_name(guest)
    for warning in station.ask(f"look at the use of {shown}", guest.ref.backend, warnings):
        named = warning if warning.startswith(f"{guest.name} ") else f"{shown}: {warning}"
        context.talk.note(f"warning: {named}")


def limits_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn limits`."""
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.add_argument("guest", metavar="GUEST", help="the guest")


def limits_verb(args: argparse.Namespace, context: Context) -> int:
    """Show a guest's limits, those in force, its use now, and whether they bite."""
    from app.cli.pace import Collector
    from app.core.limits import LIMIT_FIELDS

    with context.workstation_for([args.guest], sampling=True) as station, Collector(station) as collector:
        guest = station.fleet.resolve(args.guest)
        backend = station.backend(guest.ref.backend)
        capability_of(backend, Limiting, guest, "limit")
        assert isinstance(backend, Limiting)
        counted = _counted(station, guest)
        collector.wait_for_rates(only=guest.ref.backend if guest.state.is_live else "")
        rates = station.latest(guest.ref) if guest.state.is_live else None
        in_force, why_not = station.ask(
            f"read limits of {guest.name}",
            backend.name,
            lambda _: (backend.limits(guest.ref), backend.limit_fields(guest)),
        )
        counts = _Counts(counted, _counted(station, guest) if counted else counted)
        rows = [_Row(field, guest.limits, in_force, rates, why_not, counts) for field in LIMIT_FIELDS.values()]
    if args.json:
        context.out.json(_as_json(guest, in_force, rows))
    else:
        context.out.table(
            ("LIMIT", "SET", "IN FORCE", "NOW", "BITES"),
            [row.cells() for row in rows],
            right=("SET", "IN FORCE", "NOW"),
        )
    return 0


def _counted(station: Workstation, guest: Guest) -> Mapping[str, LimitEvidence]:
    """Ask for what the kernel counted, where the guest has limits that it counts for."""
    backend = station.backend(guest.ref.backend)
    if not isinstance(backend, Evidencing) or not any(getattr(guest.limits, name) for name in _COUNTED):
        return {}
    return station.ask(f"look at the limits of {guest.name}", backend.name, lambda _: backend.limit_evidence(guest.ref))


@dataclass(frozen=True, slots=True)
class _Counts:
    """What the kernel counted before and after the figures were taken."""

    before: Mapping[str, LimitEvidence]
    after: Mapping[str, LimitEvidence]

    def verdict(self, name: str) -> tuple[bool, str] | None:
        """Return whether a limit bites now, with what shows it; None where nothing is counted for it."""
        now = self.after.get(name)
        if now is None:
            return None
        then = self.before.get(name, now)
        if name in ("net_delay_s", "net_jitter_s"):
            return now.waiting_bytes > 0, f"{now.waiting_bytes} bytes on their way" if now.waiting_bytes else "no"
        held, lost = now.held_back - then.held_back, now.dropped - then.dropped
        told = [f"held back {held} times"] if held > 0 and name != "net_loss_pct" else []
        told += [f"{lost} packets dropped"] if lost > 0 else []
        told += [f"{now.waiting_bytes} bytes wait"] if now.waiting_bytes and name != "net_loss_pct" else []
        return bool(told), ", ".join(told) or f"not now; {now.dropped} packets dropped since it was set"


class _Row:
    """One limit of one guest."""

    def __init__(
        self,
        field: LimitField,
        wanted: Limits,
        in_force: Limits,
        rates: Rates | None,
        why_not: Mapping[str, str],
        counts: _Counts,
    ) -> None:
        self.field = field
        self.wanted = getattr(wanted, field.name)
        self.in_force = getattr(in_force, field.name)
        self.why_not = why_not.get(field.name, "")
        use = getattr(rates, _USE[field.name]) if rates is not None and field.name in _USE else None
        self.use = use / 100 if use is not None and field.name == "cpus" else use
        self.bites, self.reason = counts.verdict(field.name) or self._bite(rates)

    def _bite(self, rates: Rates | None) -> tuple[bool | None, str]:
        if self.in_force is None or rates is None:
            return None, ""
        if self.field.name == "cpus" and rates.cpu_throttled_pct is not None:
            held = rates.cpu_throttled_pct
            return held > 0, f"held back in {held:.0f} % of periods" if held > 0 else "no"
        if self.field.name == "memory_bytes" and rates.oom_kills:
            return True, f"{rates.oom_kills} killed for want of memory"
        if self.use is None or not isinstance(self.in_force, (int, float)):
            return None, ""
        share = self.use / self.in_force if self.in_force else 1.0 if self.use else 0.0
        return share >= _NEAR, f"yes, {share:.0%} of it used" if share >= _NEAR else "no"

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        field = self.field
        is_cores = self.use is not None and field.unit == "cores"
        now = f"{self.use:.2f}" if is_cores else figure_text(self.use, field.unit)
        reason = f"cannot be set: {self.why_not}" if self.why_not else self.reason
        return (field.title, field.format(self.wanted), field.format(self.in_force), now, reason)

    def as_json(self) -> dict[str, Any]:
        """Return the object of the JSON output."""
        return {
            "set": self.wanted,
            "in_force": self.in_force,
            "use": self.use,
            "bites": self.bites,
            "reason": self.reason,
            "why_not": self.why_not,
        }


def _as_json(guest: Guest, in_force: Limits, rows: list[_Row]) -> dict[str, Any]:
    return {
        "id": guest.ref.id,
        "name": guest.name,
        "backend": guest.ref.backend,
        "limits": {row.field.name: row.as_json() for row in rows},
        "io_devices": limits_json(in_force)["io_devices"],
    }
