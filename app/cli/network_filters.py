"""`--filter` of `inn network ls` and `inn network prune`, in docker's words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from app.core.moments import parse_moment
from backends.errors import UsageError
from backends.network import Network

Fits = Callable[[Network], bool]

_YES_NO = {"true": True, "1": True, "false": False, "0": False}
_KEYS = "name=, id=, driver=, type=custom|builtin, scope=local, dangling=true|false, label=KEY[=VALUE]"


def listed(texts: Sequence[str]) -> Fits:
    """Return what `ls` shows: of several filters of one key any is enough, but each label is asked for. Raises
    UsageError."""
    any_of: dict[str, list[Fits]] = {}
    for text in texts:
        key, _, value = text.partition("=")
        found = _filter(key, value)
        if found is None:
            raise UsageError(f"--filter: {text!r} makes no sense", hint=_KEYS)
        any_of.setdefault(text if key == "label" else key, []).append(found)
    return lambda network: all(any(fits(network) for fits in choices) for choices in any_of.values())


def pruned(texts: Iterable[str]) -> Fits:
    """Return what `prune` removes; all of the filters hold. Raises UsageError."""
    wanted: list[Fits] = []
    for text in texts:
        key, _, value = text.partition("=")
        if key == "until" and value:
            wanted.append(_older_than(parse_moment(value)))
        elif key in ("label", "label!") and value:
            wanted.append(_labelled(value, has=key == "label"))
        else:
            raise UsageError(f"--filter: {text!r} makes no sense", hint="label=KEY[=VALUE], label!=…, until=TIME")
    return lambda network: all(fits(network) for fits in wanted)


def _filter(key: str, value: str) -> Fits | None:
    if not value:
        return None
    if key == "label":
        return _labelled(value, has=True)
    if key == "dangling" and value in _YES_NO:
        is_dangling = _YES_NO[value]
        return lambda network: (not network.members and not network.is_default) is is_dangling
    if key == "type" and value in ("custom", "builtin"):
        return lambda network: network.is_default is (value == "builtin")
    simple: dict[str, Fits] = {
        "name": lambda network: value in network.name,
        "id": lambda network: network.id.startswith(value),
        "driver": lambda network: network.driver == value,
        "scope": lambda network: value == "local",
    }
    return simple.get(key)


def _labelled(text: str, *, has: bool) -> Fits:
    label, has_value, value = text.partition("=")
    return lambda each: (label in each.labels and (not has_value or each.labels[label] == value)) is has


def _older_than(moment_s: float) -> Fits:
    return lambda network: network.created_s is not None and network.created_s < moment_s
