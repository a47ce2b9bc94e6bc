"""Figures as people read them in a table; the JSON keeps plain numbers."""

from __future__ import annotations

import time

_STEPS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
NONE = "–"
"""What stands where a figure is unknown."""


def bytes_text(value: float | None) -> str:
    """Return "1.5 GiB"."""
    if value is None:
        return NONE
    size, step = float(value), 0
    while abs(size) >= 1023.95 and step < len(_STEPS) - 1:
        size, step = size / 1024, step + 1
    digits = 0 if step == 0 or size == int(size) or size >= 100 else 1
    return f"{size:.{digits}f} {_STEPS[step]}"


def figure_text(value: float | None, unit: str) -> str:
    """Return a figure in the unit of a metrics.Field ("%", "bytes", "bytes/s", "ops/s", "count")."""
    if value is None:
        return NONE
    if unit == "bytes":
        return bytes_text(value)
    if unit == "bytes/s":
        return bytes_text(value) + "/s"
    if unit == "ops/s":
        return f"{value:.0f}/s"
    return f"{value:.1f}" if unit == "%" else f"{value:g}"


def age_text(since_s: float | None, now_s: float | None = None) -> str:
    """Return how long ago a time (seconds since the epoch) was: "12 s", "3 min", "5 h", "2 d"."""
    if since_s is None:
        return NONE
    age = max(0.0, (time.time() if now_s is None else now_s) - since_s)
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if age >= 2 * size:
            return f"{age / size:.0f} {name}"
    return f"{age:.0f} s"


def time_text(time_s: float | None) -> str | None:
    """Return a time since the epoch in UTC as RFC 3339 with milliseconds, None for None."""
    if time_s is None:
        return None
    whole = int(time_s // 1)
    millis = min(999, int((time_s - whole) * 1000))
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{millis:03d}Z"
