"""Everything about one guest in words: what it is, what it uses, what it may use, and whether that bites."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from backends.metrics import FIELDS, Rates
from backends.model import Guest, GuestState, short_ports
from widgets.glyphs import GLYPHS, bar
from widgets.guest_column import STATE_ROLES
from widgets.guest_row import GuestRow
from widgets.line import EMPTY, Line, Role, Span, line
from widgets.text import fit
from widgets.units import UNKNOWN, count, duration, percent, size, with_unit

LABEL = 16
METER = 16


@dataclass(frozen=True, slots=True)
class Use:
    """A limit beside what is used of it."""

    name: str
    """Field of Limits."""

    title: str
    used: str
    limit: str
    share: float | None
    """Of the limit, 0 to 1; None where there is none."""

    bite: str = ""
    """Evidence that the limit holds the guest back."""


def card_lines(row: GuestRow, changed: Sequence[tuple[str, str]] = ()) -> list[Line]:
    """The card; `changed` are limits set that have no figure of their own, as (title, text)."""
    return [*_identity(row), EMPTY, *_uses(row), *_other_limits(row.guest, changed), EMPTY, *_pressure(row.rates)]


def _identity(row: GuestRow) -> list[Line]:
    guest = row.guest
    state: list[Span] = [(GLYPHS.state(guest.state) + " " + guest.state.value, STATE_ROLES[guest.state])]
    if row.stale_s is not None:
        unknown = GLYPHS.state(GuestState.UNKNOWN)
        state = [(f"{unknown} no answer, was {guest.state.value} {duration(row.stale_s)} ago", "warn")]
    if row.pending:
        state.append((f"  {GLYPHS.pending} {row.pending}", "accent"))
    kind = f"{guest.kind.value} of {guest.ref.backend}"
    lines = [line((row.name, "title"), "  ", (kind, "dim")), _label("State", *state)]
    if guest.note:
        lines.append(_label("Note", (guest.note, "")))
    if guest.health:
        roles: dict[str, Role] = {"healthy": "good", "unhealthy": "bad"}
        lines.append(_label("Health", (guest.health, roles.get(guest.health, ""))))
    if guest.restart_policy:
        again = f"  {guest.restarts} in a row" if guest.restarts else ""
        lines.append(_label("Restart", (guest.restart_policy, ""), (again, "dim")))
    if not guest.state.is_live and guest.exit_code is not None:
        lines.append(_label("Exit code", (str(guest.exit_code), "" if guest.exit_code == 0 else "warn")))
    if row.uptime_s is not None and guest.started_s is not None:
        lines.append(_label("Up", (duration(row.uptime_s), ""), (f"  since {_clock(guest.started_s)}", "dim")))
    if guest.created_s is not None:
        lines.append(_label("Created", (_clock(guest.created_s), "")))
    lines.append(_label("Image", (guest.image or UNKNOWN, "")))
    if guest.addresses:
        lines.append(_label("Addresses", (", ".join(guest.addresses), "")))
    if guest.networks:
        lines.append(_label("Networks", (", ".join(guest.networks), "")))
    if guest.ports:
        lines.append(_label("Ports", (short_ports(guest.ports), "")))
    if guest.pid is not None:
        lines.append(_label("Process", (f"{guest.pid} on the host", "")))
    lines.append(_label("Id", (guest.ref.id, "dim")))
    for key, value in sorted(guest.labels.items()):
        lines.append(_label("Label", (f"{key}={value}", "dim")))
    return lines


def _uses(row: GuestRow) -> list[Line]:
    lines = [line((fit("Use and limits", LABEL), "head"))]
    for use in uses(row):
        spans: list[Span] = [(fit(use.title, LABEL), ""), (fit(use.used, 11, right=True) + " ", "strong")]
        full = use.share is not None and use.share >= 0.9
        spans.append((bar(use.share, METER) if use.share is not None else " " * METER, "warn" if full else "cpu"))
        spans.append((f" of {use.limit}" if use.limit else " no limit", "" if use.limit else "dim"))
        if use.bite:
            spans.append((f"  {GLYPHS.warning} {use.bite}", "warn"))
        lines.append(line(*spans))
    return lines


def uses(row: GuestRow) -> list[Use]:
    """What the guest uses beside its limits, with the evidence that a limit bites."""
    rates, limits, guest = row.rates, row.guest.limits, row.guest
    cores = limits.cpus or guest.cpu_count
    held = rates.cpu_throttled_pct
    found = [
        Use(
            "cpus",
            "CPU",
            with_unit(rates.cpu_pct, "%"),
            f"{cores * 100:g} %" if cores else "",
            None if rates.cpu_pct is None or not cores else rates.cpu_pct / (cores * 100),
            f"held back in {percent(held)} % of periods" if limits.cpus and held and held >= 1 else "",
        )
    ]
    ceiling = rates.memory_limit_bytes or limits.memory_bytes
    ooms = rates.oom_kills or guest.oom_kills
    found.append(
        Use(
            "memory_bytes",
            "Memory",
            size(rates.memory_bytes),
            size(ceiling) if ceiling else "",
            None if rates.memory_bytes is None or not ceiling else rates.memory_bytes / ceiling,
            f"{ooms} killed: out of memory"
            if ooms
            else ("at its limit" if rates.memory_pct is not None and rates.memory_pct >= 98 else ""),
        )
    )
    if limits.memory_high_bytes is not None:
        used = rates.memory_bytes
        found.append(
            Use(
                "memory_high_bytes",
                "Memory high",
                size(used),
                size(limits.memory_high_bytes),
                None if used is None else used / limits.memory_high_bytes,
                "reclaimed and slowed" if used is not None and used >= limits.memory_high_bytes else "",
            )
        )
    if rates.swap_bytes or limits.swap_bytes is not None:
        found.append(_plain("swap_bytes", "Swap", rates.swap_bytes, limits.swap_bytes, size))
    found.append(_plain("pids", "Tasks", rates.pids, limits.pids, count))
    for title, name in (
        ("Disk read", "io_read_bytes_per_s"),
        ("Disk write", "io_write_bytes_per_s"),
        ("Disk read ops", "io_read_ops_per_s"),
        ("Disk write ops", "io_write_ops_per_s"),
        ("Net receive", "net_rx_bytes_per_s"),
        ("Net send", "net_tx_bytes_per_s"),
    ):
        value, limit = getattr(rates, name), getattr(limits, name)
        if value is None and limit is None:
            continue
        unit = FIELDS[name].unit
        share = None if value is None or not limit else value / limit
        found.append(
            Use(
                name,
                title,
                with_unit(value, unit),
                with_unit(limit, unit) if limit else "",
                share,
                "at its limit" if share is not None and share >= 0.95 else "",
            )
        )
    return found


def _plain(name: str, title: str, used: int | None, limit: int | None, say: Callable[[float | None], str]) -> Use:
    share = None if used is None or not limit else used / limit
    return Use(
        name,
        title,
        say(used),
        say(limit) if limit is not None else "",
        share,
        "at its limit" if share is not None and share >= 0.98 else "",
    )


def _other_limits(guest: Guest, changed: Sequence[tuple[str, str]]) -> list[Line]:
    lines: list[Line] = []
    if guest.limits.cpu_weight is not None:
        lines.append(_label("CPU weight", (str(guest.limits.cpu_weight), "")))
    if guest.limits.cpuset is not None:
        lines.append(_label("CPU set", (guest.limits.cpuset, "")))
    lines += [_label(title, (text, "")) for title, text in changed]
    return lines


def _pressure(rates: Rates) -> list[Line]:
    """What it waits for: pressure, steal."""
    told: Mapping[str, float | None] = {
        "CPU": rates.cpu_pressure_pct,
        "memory": rates.memory_pressure_pct,
        "disk": rates.io_pressure_pct,
        "a host CPU": rates.cpu_delay_pct,
    }
    known = [f"{name} {percent(value)} %" for name, value in told.items() if value is not None]
    if not known:
        return [_label("Waits for", ("not told by this kernel or backend", "dim"))]
    worst = max(value for value in told.values() if value is not None)
    return [_label("Waits for", (", ".join(known), "warn" if worst >= 20 else ""))]


def _label(title: str, *rest: Span) -> Line:
    return line((fit(title, LABEL), "dim"), *rest)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
