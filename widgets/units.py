"""Figures for people: three significant digits in a fixed width, so that columns do not jump."""

from __future__ import annotations

UNKNOWN = "-"
"""What stands where a figure is not known."""

_PREFIXES = "KMGTPE"


def percent(value: float | None) -> str:
    """A share in at most 5 cells: "0.00", "9.87", "98.7", "987", "9876"."""
    if value is None:
        return UNKNOWN
    return _three_digits(value) if value < 999.5 else f"{value:.0f}"


def size(value: float | None) -> str:
    """Bytes in at most 5 cells, powers of 1024: "0", "812", "1.23K", "45.6M", "789G"."""
    if value is None:
        return UNKNOWN
    if value < 999.5:
        return f"{value:.0f}"
    for prefix in _PREFIXES:
        value /= 1024
        if value < 999.5:
            return _three_digits(value) + prefix
    return "inf"


def rate(value: float | None) -> str:
    """Bytes a second as `size` tells them."""
    return size(value)


def count(value: float | None) -> str:
    """A number of things in at most 5 cells, powers of 1000 from ten thousand on."""
    if value is None:
        return UNKNOWN
    if value < 9999.5:
        return f"{value:.0f}"
    for prefix in _PREFIXES:
        value /= 1000
        if value < 999.5:
            return _three_digits(value) + prefix
    return "inf"


def quantity(value: float | None, unit: str) -> str:
    """A value with the unit of its `Field`: "%", "bytes", "bytes/s", "ops/s", "count"."""
    if unit == "%":
        return percent(value)
    return size(value) if unit.startswith("bytes") else count(value)


def with_unit(value: float | None, unit: str) -> str:
    """As `quantity`, the unit behind it: "12.3 %", "4.5 MiB/s", "77 ops/s"."""
    text = quantity(value, unit)
    if value is None:
        return text
    if unit.startswith("bytes"):
        number, prefix = (text[:-1], text[-1]) if text[-1].isalpha() else (text, "")
        return f"{number} {prefix + 'iB' if prefix else 'B'}{unit[5:]}"
    return text if unit == "count" else f"{text} {unit}"


def duration(seconds: float | None) -> str:
    """A span of time in at most 6 cells: "45s", "12m05", "7h08", "3d04h", "412d"."""
    if seconds is None:
        return UNKNOWN
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 60:
        return f"{whole}s"
    if minutes < 60:
        return f"{minutes}m{whole % 60:02d}"
    if hours < 24:
        return f"{hours}h{minutes % 60:02d}"
    return f"{days}d{hours % 24:02d}h" if days < 100 else f"{days}d"


def _three_digits(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
