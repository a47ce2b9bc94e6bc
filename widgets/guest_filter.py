"""The filter of the guest table: words, regular expressions, properties and comparisons.

::

    web            name contains "web" (a regular expression; upper case matters if there is any)
    !web           not so
    kind:vm        container (ctr) or vm
    state:running  any state, or live
    backend:native
    image:host
    cpu>50  mem>=64M  read>1M  pids<10  thr>0
    several words  all must hold
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from widgets.guest_row import GuestRow

Test = Callable[[GuestRow], bool]

FIGURES = {
    "cpu": "cpu_pct",
    "thr": "cpu_throttled_pct",
    "throttled": "cpu_throttled_pct",
    "mem": "memory_bytes",
    "memory": "memory_bytes",
    "limit": "memory_pct",
    "read": "io_read_bytes_per_s",
    "write": "io_write_bytes_per_s",
    "rx": "net_rx_bytes_per_s",
    "tx": "net_tx_bytes_per_s",
    "pids": "pids",
    "oom": "oom_kills",
}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_FIGURE = re.compile(r"([a-z]+)(>=|<=|>|<|=)([0-9.]+)([kmgt]?)i?b?%?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True, slots=True)
class GuestFilter:
    """Says which guests are shown. `problem` tells what of the text could not be understood."""

    text: str
    tests: tuple[Test, ...]
    problem: str = ""

    def __call__(self, row: GuestRow) -> bool:
        return all(test(row) for test in self.tests)


def parse_filter(text: str) -> GuestFilter:
    """Understand a filter as the user types it; never raises."""
    tests: list[Test] = []
    problem = ""
    for word in text.split():
        negated = word.startswith("!") and len(word) > 1
        try:
            test = _test(word[1:] if negated else word)
        except ValueError as error:
            problem = str(error)
            continue
        tests.append(_negate(test) if negated else test)
    return GuestFilter(text, tuple(tests), problem)


def _negate(test: Test) -> Test:
    return lambda row: not test(row)


def _test(word: str) -> Test:
    figure = _FIGURE.fullmatch(word)
    if figure is not None and figure[1].lower() in FIGURES:
        return _figure(figure)
    key, colon, value = word.partition(":")
    if colon and key.lower() in _PROPERTIES:
        read, wanted = _PROPERTIES[key.lower()], value.lower()
        return lambda row: read(row, wanted)
    try:
        pattern = re.compile(word, 0 if any(c.isupper() for c in word) else re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{word}: {error}") from error
    return lambda row: pattern.search(row.name) is not None


def _figure(match: re.Match[str]) -> Test:
    field, compare = FIGURES[match[1].lower()], _COMPARE[match[2]]
    try:
        bound = float(match[3]) * 1024 ** _POWERS[match[4].lower()]
    except ValueError as error:
        raise ValueError(f"{match[3]} is no number") from error

    def test(row: GuestRow) -> bool:
        value = getattr(row.rates, field)
        return value is not None and compare(value, bound)

    return test


def _kind(row: GuestRow, wanted: str) -> bool:
    return row.guest.kind.value.startswith("container" if wanted == "ctr" else wanted)


def _state(row: GuestRow, wanted: str) -> bool:
    return row.guest.state.is_live if wanted == "live" else row.guest.state.value.startswith(wanted)


_PROPERTIES: dict[str, Callable[[GuestRow, str], bool]] = {
    "kind": _kind,
    "state": _state,
    "backend": lambda row, wanted: row.ref.backend.startswith(wanted),
    "image": lambda row, wanted: wanted in (row.guest.image or "").lower(),
    "id": lambda row, wanted: row.ref.id.startswith(wanted),
    "name": lambda row, wanted: wanted in row.name.lower(),
}
