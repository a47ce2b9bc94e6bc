"""`update` of `inn oci`: other limits for a live container, all of them or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from backends import quick_json
from backends.errors import InnkeeperError
from backends.kernel.cgroup import Cgroup, detect
from backends.oci import config, resources, state
from backends.oci.errors import NotRunning, OciError
from backends.oci.spelling import spelled
from backends.oci.state import Container
from backends.trace import Step

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def group_of(container: Container) -> Cgroup:
    """Return its control group, in the hierarchies that it was made in. Raises OciError if it has none."""
    known = container.state.get("cgroup") or {}
    if not known.get("folders"):
        raise OciError("container has no cgroup of its own")
    return Cgroup(detect(), known["path"], known["folders"])


def update(container: Container, wanted: Mapping[str, Any], warn: Callable[[str], None] = lambda _: None) -> None:
    """Put resources in force, those not named stay; the container's record knows them from then on.

    The list of devices stays as it is, as with runc: others may have allowed some since.
    Raises NotRunning, ConfigInvalid, Unsupported, KernelRefused; what was written before a failure is taken back.
    """
    if container.status() == "stopped":
        raise NotRunning("container not running")
    wanted = {name: part for name, part in spelled(wanted).items() if name != "devices"}
    config.check_resources(wanted)
    for warning in resources.warnings(wanted):
        warn(warning)
    known = container.config()
    current = known.setdefault("linux", {}).setdefault("resources", {})
    _run_all(resources.steps(group_of(container), wanted, current=current))
    known["linux"]["resources"] = merged(current, wanted)
    state.write_file(f"{container.folder}/{state.CONFIG}", quick_json.dumps(known))


def _run_all(steps: list[Step]) -> None:
    done: list[Step] = []
    try:
        for step in steps:
            step.run()
            done.append(step)
    except (InnkeeperError, OSError):
        for step in reversed(done):
            with suppress(InnkeeperError, OSError):
                step.undo()
        raise


def merged(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return resources with the wanted ones in their place; lists per device are matched by device."""
    result = dict(current)
    for name, value in wanted.items():
        before = result.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            result[name] = merged(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            result[name] = _by_device(before, value)
        else:
            result[name] = value
    return result


def _by_device(before: list[Any], after: list[Any]) -> list[Any]:
    entries = {_device(entry): entry for entry in [*before, *after]}
    return list(entries.values())


def _device(entry: Any) -> object:
    keys = ("major", "minor", "pageSize", "name")
    return tuple((key, entry[key]) for key in keys if key in entry) if isinstance(entry, Mapping) else repr(entry)


def bytes_of(text: str, option: str) -> int:
    """Return the bytes of "512", "64m", "1.5GiB"; "-1" is unlimited. Raises OciError with runc's words."""
    if text == "-1":
        return -1
    number = text.rstrip("bBiIkKmMgGtTpP ")
    unit = text[len(number) :].strip().lower()
    unit = unit.removesuffix("ib") if unit.endswith("ib") else unit.removesuffix("b") if len(unit) > 1 else unit
    try:
        value = float(number) if "." in number else int(number)
        if value < 0 or unit not in _UNITS:
            raise ValueError
    except ValueError:
        raise OciError(f"invalid value for {option}: invalid size: '{text}'") from None
    return int(value * _UNITS[unit])
