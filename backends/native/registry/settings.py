"""Where images come from, by the settings that podman, skopeo and buildah have: containers-registries.conf(5).

Read are /etc/containers/registries.conf and registries.conf.d/*.conf, else those below $XDG_CONFIG_HOME/containers
where there are any, else $CONTAINERS_REGISTRIES_CONF alone. Of each [[registry]]: prefix, location, insecure, blocked,
mirror (location, insecure, pull-from-mirror), mirror-by-digest-only. Short names are docker.io's, as with docker, so
unqualified-search-registries and aliases are not read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.errors import InnkeeperError, PermissionDenied, os_error_text

_HUB = "docker.io"
_HUB_HOST = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image is asked for."""

    registry: str
    """What people call it, and what credentials are kept under: "docker.io"."""

    repository: str
    insecure: bool = False
    """The settings say so: any certificate is believed, and plain HTTP will do where there is no TLS."""

    is_mirror: bool = False

    @property
    def host(self) -> str:
        """Whom to connect to."""
        return _HUB_HOST if self.registry == _HUB else self.registry


def places(registry: str, repository: str, *, by_digest: bool, settings: Sequence[Mapping[str, Any]]) -> list[Place]:
    """Return where to pull from, mirrors first; the last one is the registry itself. Raises PermissionDenied."""
    whole = f"{registry}/{repository}"
    entry = _entry_for(whole, settings)
    if entry is None:
        return [Place(registry, repository)]
    prefix = str(entry.get("prefix") or entry.get("location") or "")
    if entry.get("blocked") is True:
        raise PermissionDenied(f"the settings block {prefix}", hint="see registries.conf in /etc/containers")
    found = []
    for mirror in _tables(entry, "mirror"):
        when = mirror.get("pull-from-mirror") or ("digest-only" if entry.get("mirror-by-digest-only") else "all")
        if when == "all" or (when == "digest-only") is by_digest:
            found.append(_place(mirror, prefix, whole, is_mirror=True))
    return [*found, _place(entry, prefix, whole, is_mirror=False)]


def _place(entry: Mapping[str, Any], prefix: str, whole: str, *, is_mirror: bool) -> Place:
    location = str(entry.get("location") or "")
    matched = whole.partition("/")[0] if prefix.startswith("*.") else prefix
    moved = location + whole[len(matched) :] if location else whole
    registry, _, repository = moved.partition("/")
    if not registry or not repository:
        raise InnkeeperError(f"registries.conf: {location!r} is no location of images")
    return Place(registry, repository, insecure=entry.get("insecure") is True, is_mirror=is_mirror)


def _entry_for(whole: str, settings: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the entry whose prefix is the longest that fits."""
    best, longest = None, -1
    for entry in settings:
        prefix = str(entry.get("prefix") or entry.get("location") or "")
        if prefix and len(prefix) > longest and _fits(prefix, whole):
            best, longest = entry, len(prefix)
    return best


def _fits(prefix: str, whole: str) -> bool:
    if prefix.startswith("*."):
        return whole.partition("/")[0].endswith(prefix[1:])
    return whole.startswith(prefix) and whole[len(prefix) : len(prefix) + 1] in ("", "/")


def read() -> list[Mapping[str, Any]]:
    """Return all [[registry]] entries; of two with one prefix the later file's. Raises InnkeeperError."""
    by_prefix: dict[str, Mapping[str, Any]] = {}
    for path in _files():
        for entry in _tables(_parsed(path), "registry"):
            by_prefix[str(entry.get("prefix") or entry.get("location") or "")] = entry
    return list(by_prefix.values())


def _files() -> list[Path]:
    if named := os.environ.get("CONTAINERS_REGISTRIES_CONF"):
        return [Path(named)]
    home, settings = os.environ.get("HOME") or "/root", os.environ.get("XDG_CONFIG_HOME")
    own = (Path(settings) if settings else Path(home) / ".config") / "containers"
    found: list[Path] = []
    main = own / "registries.conf"
    found.append(main if main.exists() else Path("/etc/containers/registries.conf"))
    for folder in (Path("/etc/containers"), own):
        found += sorted((folder / "registries.conf.d").glob("*.conf"))
    return found


def _parsed(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InnkeeperError(f"cannot read the settings of registries: {os_error_text(error)}") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError
        raise InnkeeperError(f"cannot read the settings of registries: {path}: {error}") from error


def _tables(table: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = table.get(name)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
