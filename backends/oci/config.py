"""Reading config.json and refusing what makes no sense, before anything is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from backends import quick_json
from backends.kernel.capability import CAPABILITIES
from backends.kernel.capability import SETS as CAPABILITY_SETS
from backends.oci import properties, relations
from backends.oci.errors import ConfigInvalid
from backends.oci.schema import Refused
from backends.oci.spelling import spelled

_MAX_BYTES = 16 << 20


def load(bundle: str, name: str = "config.json") -> dict[str, Any]:
    """Return the checked configuration of a bundle. Raises ConfigInvalid or Unsupported, naming the property."""
    config = parse(read(os.path.join(bundle, name)))
    _spell_resources(config)
    check(config)
    config.setdefault("linux", {})
    return config


def _spell_resources(config: Mapping[str, Any]) -> None:
    part = config.get("linux")
    if isinstance(part, dict) and isinstance(part.get("resources"), dict):
        part["resources"] = spelled(part["resources"])


def read(path: str) -> bytes:
    """Return the bytes of a JSON file. Raises ConfigInvalid."""
    try:
        with open(path, "rb") as file:
            found = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigInvalid(f"JSON specification file {path} not found") from None
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(found) > _MAX_BYTES:
        raise ConfigInvalid(f"{path} is larger than {_MAX_BYTES >> 20} MiB")
    return found


def _loads(text: bytes | str) -> Any:
    try:
        return quick_json.loads(text if isinstance(text, str) else text.decode())
    except ValueError:
        import json  # takes long to load, and says where the text is wrong

        return json.loads(text)


def parse(text: bytes | str) -> dict[str, Any]:
    """Return a JSON object; what is null counts as not there, as in runc. Raises ConfigInvalid."""
    try:
        found = _loads(text)
        if type(found) is not dict:
            raise ConfigInvalid("the configuration is not a JSON object")
        # Both are rare, and looking through the whole text for them is cheap.
        if (b"null" in text) if isinstance(text, bytes) else ("null" in text):
            found = _without_null(found)
    except RecursionError:
        raise ConfigInvalid("the configuration is nested too deeply") from None
    except ValueError as error:
        raise ConfigInvalid(f"the configuration is no JSON: {error}") from None
    return dict(found)


def _without_null(value: Any) -> Any:
    if type(value) is dict:
        return {name: _without_null(item) for name, item in value.items() if item is not None}
    return [_without_null(item) for item in value] if type(value) is list else value


def check(config: Mapping[str, Any]) -> None:
    """Raise ConfigInvalid or Unsupported, with the property's name first, for what cannot be run."""
    _run(config, properties.config, relations.check)


def check_process(process: Mapping[str, Any]) -> None:
    """The same for `process` alone, as exec takes one."""
    _run(process, lambda value: _within("process", properties.process, value), relations.check_process)


def check_resources(resources: Mapping[str, Any]) -> None:
    """The same for `linux.resources` alone, as update takes one."""
    _run(resources, lambda value: _within("linux.resources", properties.resources, value), lambda _: None)


def warnings(config: Mapping[str, Any]) -> list[str]:
    """Return what is passed over, for the runtime's log: unknown capabilities, relative destinations …"""
    found = list(relations.warnings(config))
    sets = config.get("process", {}).get("capabilities", {})
    named = {name for kind in CAPABILITY_SETS for name in sets.get(kind, ())}
    unknown = sorted(named - set(CAPABILITIES))
    if unknown:
        found.append(f"process.capabilities: ignoring unknown or unavailable capabilities: {' '.join(unknown)}")
    return found


def _within(place: str, rule: Callable[[Any], None], value: Any) -> None:
    try:
        rule(value)
    except Refused as error:
        raise error.within(place) from None


def _run(value: Any, rule: Callable[[Any], None], relation: Callable[[Any], None]) -> None:
    try:
        rule(value)
        relation(value)
    except Refused as error:
        raise ConfigInvalid(str(error)) from None
    except RecursionError:
        raise ConfigInvalid("the configuration is nested too deeply") from None
