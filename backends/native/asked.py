"""What is asked of a new container, as JSON for the way to the spawner; only what differs from the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from backends.container import ContainerSpec, HealthCheck, LogLimits, RestartPolicy
from backends.errors import UsageError
from backends.model import Limits
from backends.native.record import limits_from_json, limits_to_json

_DEFAULTS = ContainerSpec(image="")
_PLAIN = frozenset(
    field.name for field in fields(ContainerSpec)
    if isinstance(getattr(_DEFAULTS, field.name), str | bool | int | float | tuple | Mapping | None)
) - {"secrets", "health"}  # fmt: skip


def to_json(asked: ContainerSpec) -> dict[str, Any]:
    """Return the request. Secrets are no part of it: they are read where the client is."""
    found = {name: getattr(asked, name) for name in _PLAIN if getattr(asked, name) != getattr(_DEFAULTS, name)}
    found["image"] = asked.image
    if asked.limits != Limits():
        found["limits"] = limits_to_json(asked.limits)
    if asked.health is not None:
        found["health"] = asdict(asked.health)
    if asked.log != _DEFAULTS.log:
        found["log"] = asdict(asked.log)
    if asked.restart != _DEFAULTS.restart:
        found["restart"] = str(asked.restart)
    return found


def from_json(raw: Mapping[str, Any]) -> ContainerSpec:
    """The reverse of to_json. Raises UsageError for what is no such request."""
    try:
        values = {name: _frozen(value) for name, value in raw.items() if name in _PLAIN}
        if "limits" in raw:
            values["limits"] = limits_from_json(raw["limits"])
        if "health" in raw:
            values["health"] = HealthCheck(**{**raw["health"], "args": tuple(raw["health"]["args"])})
        if "log" in raw:
            values["log"] = LogLimits(**raw["log"])
        if "restart" in raw:
            values["restart"] = RestartPolicy.parse(raw["restart"])
        unknown = raw.keys() - _PLAIN - {"limits", "health", "log", "restart"}
        if unknown:
            raise UsageError(f"not known of a container: {', '.join(sorted(unknown))}")
        return ContainerSpec(**values)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UsageError(f"malformed request: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
