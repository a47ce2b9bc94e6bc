"""Looking at containers in tests."""

from __future__ import annotations

from backends.model import Guest
from backends.native.backend import NativeBackend


def log_of(backend: NativeBackend, guest: Guest, stream: str = "") -> str:
    """Return what a guest printed."""
    lines = [line for line in backend.logs(guest.ref) if stream in ("", line.stream)]
    return b"".join(line.data for line in lines).decode("utf-8", "replace")


def now(backend: NativeBackend, guest: Guest) -> Guest:
    """Return the guest as it is now."""
    return next(found for found in backend.guests() if found.ref == guest.ref)
