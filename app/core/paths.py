"""Where Innkeeper keeps its state."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from backends.errors import UsageError


@dataclass(frozen=True, slots=True)
class Paths:
    """The two folders all state lives in."""

    state_dir: Path
    """What survives a reboot: containers, images, snapshots."""

    run_dir: Path
    """What does not: sockets, pids."""

    is_default: bool
    """False when the user chose the place (--root or INNKEEPER_ROOT)."""


def paths_for(root: Path | None = None) -> Paths:
    """Return the folders below `root`, else INNKEEPER_ROOT, else this user's default ones. Makes none of them.

    Raises UsageError where there is no telling.
    """
    chosen = root if root is not None else _from_environment("INNKEEPER_ROOT")
    if chosen is not None:
        state = _absolute(chosen)
        return Paths(state, state / "run", is_default=False)
    if os.geteuid() == 0:
        return Paths(Path("/var/lib/innkeeper"), Path("/run/innkeeper"), is_default=True)
    return _user_paths()


def _user_paths() -> Paths:
    data = _from_environment("XDG_DATA_HOME") or _home() / ".local" / "share"
    runtime = _from_environment("XDG_RUNTIME_DIR")
    state = data / "innkeeper"
    # Not below /tmp: another user could have made the folder before us.
    return Paths(state, runtime / "innkeeper" if runtime else state / "run", is_default=True)


def _absolute(chosen: Path) -> Path:
    try:
        return Path(os.path.abspath(chosen))  # noqa: PTH100  -- a symbolic link stays as the user wrote it
    except FileNotFoundError as error:
        what = f"cannot tell where {chosen} is: the current folder is gone"
        raise UsageError(what, hint="Give the whole path") from error


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # no HOME, and no such user in /etc/passwd
        hint = "Set HOME, or choose a folder with --root DIR"
        raise UsageError("cannot tell where to keep state: this user has no home folder", hint=hint) from error


def _from_environment(name: str) -> Path | None:
    text = os.environ.get(name)
    return Path(text) if text else None
