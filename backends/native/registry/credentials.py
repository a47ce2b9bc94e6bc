"""Credentials as docker and podman keep them (docker-config.json, containers-auth.json(5)), and changes to them.

Read in this order: the file that was asked for, alone; else $REGISTRY_AUTH_FILE, podman's auth.json, docker's
config.json, the first that knows the registry. Written: where the registry is known already, else docker's
config.json, which podman reads too. Helper programs (docker-credential-NAME) get and give all through pipes.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.errors import InnkeeperError, os_error_text
from backends.native.registry.failures import printable

_LARGEST = 1 << 20
_HELPER_S = 30.0
_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HUB_KEY = "https://index.docker.io/v1/"
"""What docker calls its own registry in these files."""

_TOKEN_USER = "<token>"
"""A helper's way to say that the secret is a refresh token."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What somebody proves who they are with."""

    user: str = ""
    password: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    """"identitytoken" in the files; empty where there is a password."""


def files(chosen: str = "") -> list[Path]:
    """Return the files that are asked, in this order, whether they are there or not."""
    if chosen:
        return [Path(chosen)]
    environment, found = os.environ, []
    if named := environment.get("REGISTRY_AUTH_FILE"):
        found.append(Path(named))
    run = environment.get("XDG_RUNTIME_DIR")
    found.append(Path(run) / "containers/auth.json" if run else Path(f"/run/containers/{os.getuid()}/auth.json"))
    home = Path(environment.get("HOME") or "/root")
    settings = environment.get("XDG_CONFIG_HOME")
    found.append((Path(settings) if settings else home / ".config") / "containers" / "auth.json")
    return [*found, _docker_file(home)]


def _docker_file(home: Path) -> Path:
    named = os.environ.get("DOCKER_CONFIG")
    return (Path(named) if named else home / ".docker") / "config.json"


def find(registry: str, repository: str = "", chosen: str = "") -> Credentials | None:
    """Return the credentials for a repository, None where there are none. Raises InnkeeperError (bad file, helper)."""
    for path in files(chosen):
        config = _read(path)
        for key in _keys(registry, repository):
            if (found := _in(config, key)) is not None:
                return found
    return None


def _keys(registry: str, repository: str) -> Iterator[str]:
    """Yield under what it can be kept, the most exact first: podman has keys for parts of a registry."""
    parts = repository.split("/") if repository else []
    for count in range(len(parts), 0, -1):
        yield f"{registry}/{'/'.join(parts[:count])}"
    if registry in _HUB:
        yield from (_HUB_KEY, *_HUB)
    else:
        yield registry


def _in(config: dict[str, Any], key: str) -> Credentials | None:
    is_host = "/" not in key or key == _HUB_KEY
    helper = _table(config, "credHelpers").get(key) or (config.get("credsStore") if is_host else None)
    if helper and (found := _from_helper(str(helper), key)) is not None:
        return found
    entries = _table(config, "auths")
    entry = entries.get(key)
    if entry is None:  # docker's own files have "https://HOST/v1/" too
        entry = next((value for name, value in entries.items() if _host_of(name) == key), None)
    return _decoded(entry) if isinstance(entry, dict) else None


def _host_of(name: str) -> str:
    return name.partition("://")[2].partition("/")[0] if "://" in name else ""


def _decoded(entry: dict[str, Any]) -> Credentials | None:
    if token := entry.get("identitytoken"):
        return Credentials(refresh_token=str(token))
    if entry.get("username") and entry.get("password"):
        return Credentials(str(entry["username"]), str(entry["password"]))
    try:
        user, colon, password = base64.b64decode(str(entry.get("auth", "")), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Credentials(user, password.rstrip("\0")) if colon else None


def keep(registry: str, found: Credentials, chosen: str = "") -> Path:
    """Keep the credentials for a registry and return the file; nobody else can read it. Raises InnkeeperError."""
    key = _HUB_KEY if registry in _HUB else registry
    candidates = files(chosen)
    path = next((path for path in candidates if key in _table(_read(path), "auths")), candidates[-1])
    config = _read(path)
    helper = _table(config, "credHelpers").get(key) or config.get("credsStore")
    entries = dict(_table(config, "auths"))
    if helper:
        stored = {"ServerURL": key, "Username": found.user, "Secret": found.password}
        _run_helper(str(helper), "store", json.dumps(stored))
        entries[key] = {}
    else:
        text = base64.b64encode(f"{found.user}:{found.password}".encode()).decode()
        entries[key] = {"auth": text}
    _write(path, config | {"auths": entries})
    return path


def forget(registry: str, chosen: str = "") -> list[Path]:
    """Remove the credentials for a registry and return the files they were in. Raises InnkeeperError."""
    changed = []
    for path in files(chosen):
        config = _read(path)
        keys = {_HUB_KEY, *_HUB} if registry in _HUB else {registry}
        entries = _table(config, "auths")
        known = [name for name in entries if name in keys or _host_of(name) in keys]
        for key in sorted(keys):
            helper = _table(config, "credHelpers").get(key) or (config.get("credsStore") if known else None)
            if helper:
                with suppress(InnkeeperError):  # it may not know it
                    _run_helper(str(helper), "erase", key)
        if known:
            _write(path, config | {"auths": {name: entry for name, entry in entries.items() if name not in known}})
            changed.append(path)
    return changed


def _table(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST)
        found = json.loads(data or b"{}")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise InnkeeperError(f"cannot read credentials: {os_error_text(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InnkeeperError(f"cannot read credentials: {path} is no JSON") from error
    if not isinstance(found, dict):
        raise InnkeeperError(f"cannot read credentials: {path} holds no object")
    return found


def _write(path: Path, config: dict[str, Any]) -> None:
    """Replace the file at once by one that only its owner can read; a symbolic link stays one."""
    place = Path(os.path.realpath(path))
    draft = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(config, file, indent="\t")
            file.flush()
            os.fsync(file.fileno())
        draft.rename(place)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InnkeeperError(f"cannot keep credentials: {os_error_text(error)}") from error


def _from_helper(name: str, key: str) -> Credentials | None:
    try:
        found = json.loads(_run_helper(name, "get", key))
        user, secret = str(found["Username"]), str(found["Secret"])
    except _NotKnown:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InnkeeperError(f"docker-credential-{name} answered nonsense for {key}") from error
    return Credentials(refresh_token=secret) if user == _TOKEN_USER else Credentials(user, secret)


class _NotKnown(InnkeeperError):
    """A helper has no such credentials."""


def _run_helper(name: str, verb: str, text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise InnkeeperError(f"{printable(name, 40)!r} is no name of a credential helper")
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, verb], input=text, capture_output=True, text=True, timeout=_HELPER_S, errors="replace"
        )
    except OSError as error:
        raise InnkeeperError(f"cannot run {program}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise InnkeeperError(f"{program} {verb} did not end within {_HELPER_S:g} s") from error
    if done.returncode:
        said = printable(done.stdout + done.stderr)
        if "not found" in said.lower():
            raise _NotKnown(said)
        raise InnkeeperError(f"{program} {verb} failed: {said}")  # what a failed helper says holds no secret
    return done.stdout
