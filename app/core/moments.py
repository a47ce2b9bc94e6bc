"""Points in time as users write them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from app.core.units import parse_duration
from backends.errors import UsageError

_SECONDS = re.compile(r"[0-9]{9,}(\.[0-9]*)?")
_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:ms|[smhd]))")


def parse_moment(text: str, now_s: float | None = None) -> float:
    """Return seconds since the epoch of "2026-01-31T12:00:00Z", "2026-01-31", 1768000000, or "10m", "1h30m" ago.

    A time without a zone is local. Raises UsageError.
    """
    given = text.strip()
    if _SECONDS.fullmatch(given):
        return float(given)
    parts = _PARTS.findall(given)
    if parts and "".join(parts) == given:
        return (time.time() if now_s is None else now_s) - sum(parse_duration(part) for part in parts)
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        hint = "a time such as 2026-01-31T12:00:00Z, seconds since 1970, or how long ago: 10m, 1h30m"
        raise UsageError(f"{text!r} is no point in time", hint=hint) from None
    return (found if found.tzinfo is not None else found.astimezone()).astimezone(UTC).timestamp()
