"""A guest as the JSON of `ps` has it. The keys are a promise: see docs/cli.md."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from app.cli.figures import time_text
from backends.model import Guest, Limits


def guest_json(guest: Guest) -> dict[str, Any]:
    """Return the guest as JSON types."""
    return {
        "id": guest.ref.id,
        "name": guest.name,
        "backend": guest.ref.backend,
        "kind": str(guest.kind),
        "state": str(guest.state),
        "image": guest.image,
        "created": time_text(guest.created_s),
        "started": time_text(guest.started_s),
        "exit_code": guest.exit_code,
        "oom_kills": guest.oom_kills,
        "note": guest.note,
        "pid": guest.pid,
        "addresses": list(guest.addresses),
        "health": guest.health or None,
        "restarts": guest.restarts,
        "restart_policy": guest.restart_policy or None,
        "ports": list(guest.ports),
        "cpu_count": guest.cpu_count,
        "memory_total_bytes": guest.memory_total_bytes,
        "labels": dict(guest.labels),
        "limits": limits_json(guest.limits),
    }


def limits_json(limits: Limits) -> dict[str, Any]:
    """Return all limits; null is "no limit"."""
    found = {item.name: getattr(limits, item.name) for item in fields(Limits)}
    found["io_devices"] = [
        {item.name: getattr(device, item.name) for item in fields(device)} for device in limits.io_devices
    ]
    return found
