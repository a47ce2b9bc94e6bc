"""Sizes, rates and durations as people write them, both ways. Pure.

Sizes count in 1024: "64M" is 64 * 1024**2 bytes. What a format function returns, its parse function takes back.
"""

from __future__ import annotations

import math
import re

from backends.errors import UsageError

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4

_SIZES = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]*)?|\.[0-9]+)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)
_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ms|s|m|h|d)?", re.IGNORECASE)


def parse_size(text: str, *, what: str = "size") -> int:
    """Return bytes: "64M", "1.5G", "10KiB", "4096". Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no {what}: expected a number with an optional K, M, G or T, such as 64M")
    return round(float(match[1]) * _SIZES[match[2].upper()]) if "." in match[1] else _whole(match)


def _whole(match: re.Match[str]) -> int:
    return int(match[1]) * _SIZES[match[2].upper()]


def format_size(size_bytes: int) -> str:
    """Return the shortest text that means exactly this number of bytes: "64M", "1.5G", "1000"."""
    for letter in ("T", "G", "M", "K"):
        unit = _SIZES[letter]
        if size_bytes < unit:
            continue
        text = f"{size_bytes / unit:.2f}".rstrip("0").rstrip(".") + letter
        if parse_size(text) == size_bytes:
            return text
    return str(size_bytes)


def parse_rate(text: str, *, what: str = "rate") -> int:
    """Return bytes per second: "10M", "10M/s", "512KiB/s". Raises UsageError."""
    stripped = text.strip()
    if stripped.lower().endswith("/s"):
        stripped = stripped[:-2]
    try:
        return parse_size(stripped)
    except UsageError:
        raise UsageError(f"{text!r} is no {what}: expected bytes per second, such as 10M or 512K/s") from None


def format_rate(bytes_per_s: int) -> str:
    """Return a rate as "10M/s", exactly."""
    return format_size(bytes_per_s) + "/s"


def parse_duration(text: str, *, what: str = "duration") -> float:
    """Return seconds: "90", "1.5s", "500ms", "2m", "1h". Raises UsageError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no {what}: expected seconds or a number with ms, s, m, h or d, such as 90 or 2m")
    seconds = float(match[1]) * _DURATIONS[(match[2] or "s").lower()]
    if not math.isfinite(seconds):
        raise UsageError(f"{text!r} is no {what}: too long")
    return seconds


def format_duration(seconds: float) -> str:
    """Return a duration that parse_duration takes back, as short as it can be: "90s", "2m", "1.5s"."""
    for letter in ("d", "h", "m"):
        unit = _DURATIONS[letter]
        if seconds >= unit and seconds % unit == 0:
            return f"{int(seconds // unit)}{letter}"
    return f"{seconds!r}s" if seconds != int(seconds) else f"{int(seconds)}s"


def format_delay(seconds: float) -> str:
    """Return a short time that parse_duration takes back: "100ms", "1.5s"."""
    return f"{round(seconds * 1000, 6):g}ms" if seconds < 1 else format_duration(seconds)


def parse_percent(text: str, *, what: str = "percentage") -> float:
    """Return "5%", "0.1" or "12.5 %" as a number of hundredths. Raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*%?", text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no {what}: expected a number such as 5% or 0.1")
    return float(match[1])


def parse_count(text: str, *, what: str = "number") -> int:
    """Return a whole number; K and M count in 1000 here. Raises UsageError."""
    match = re.fullmatch(r"([0-9]+)\s*([kKmM]?)", text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no {what}: expected a whole number, such as 100")
    return int(match[1]) * {"": 1, "k": 1000, "m": 1_000_000}[match[2].lower()]


def parse_cpu_list(text: str, *, what: str = "list of CPUs") -> str:
    """Return a kernel CPU list in its shortest form: "0,1,2,5" becomes "0-2,5". Raises UsageError."""
    return format_cpu_list(cpu_numbers(text, what=what))


def cpu_numbers(text: str, *, what: str = "list of CPUs") -> frozenset[int]:
    """Return the CPUs that a kernel list names. Raises UsageError."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,5})(?:-([0-9]{1,5}))?\s*", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise UsageError(f"{text!r} is no {what}: expected numbers and ranges, such as 0-1,3")
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(found)


def format_cpu_list(numbers: frozenset[int]) -> str:
    """Return CPUs as a kernel list: "0-2,5"."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
