"""CRIU, which writes processes to disk and brings them back: whether it works here, in its own words."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from backends.container import CheckpointOptions
from backends.errors import Unsupported

_TIMEOUT_S = 20.0
_NOISE = re.compile(r"rlimit: |exited, status|execvp\(")
"""Errors that CRIU tells of and goes on after, or that tell only of another's end."""

_SAID = re.compile(r"^Error \([^)]*\): (.+)$", re.MULTILINE)


@functools.cache
def version() -> str:
    """Return the version that is installed: "3.17.1"; empty if there is none."""
    if _program() is None:
        return ""
    said = _ask("--version")[1]
    found = re.search(r"Version: (\S+)", said)
    return found[1] if found else "of an unknown version"


@functools.cache
def why_not() -> str:
    """Say why CRIU cannot work here, as `criu check` says it; empty if it can."""
    if _program() is None:
        return "CRIU is not installed"
    if os.geteuid() != 0:
        return "CRIU needs root"
    code, said = _ask("check")
    if not code:
        return ""
    # The first error is the cause; those below it say only what failed because of it.
    errors: list[str] = _SAID.findall(said)
    return f"CRIU {version()} does not work on this kernel: {errors[0] if errors else said.strip() or f'exit {code}'}"


def require(what: str) -> str:
    """Return the program. Raises Unsupported with the reason if CRIU cannot work here; `what` was to be done."""
    reason = why_not()
    if reason:
        hint = "apt install criu" if not version() else "a newer CRIU may know this kernel; `criu check` says more"
        raise Unsupported(f"cannot {what}: {reason}", hint=hint)
    return str(_program())


def _program() -> str | None:
    return shutil.which("criu", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _ask(*arguments: str) -> tuple[int, str]:
    program = _program()
    assert program is not None
    try:
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
            cwd="/",
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout + done.stderr


def options(asked: CheckpointOptions) -> list[str]:
    """Return the options of the command line for what is asked."""
    words = {
        "--tcp-established": asked.tcp_established,
        "--file-locks": asked.file_locks,
        "--ext-unix-sk": asked.external_unix,
        "--shell-job": asked.shell_job,
    }
    return [word for word, is_wanted in words.items() if is_wanted]


def command(program: str, verb: str, image: Path, root: str, more: Sequence[str]) -> list[str]:
    """Return the command line of `criu dump` or `criu restore` for a container's root and the folder of its image."""
    place = ["-D", str(image), "-o", f"{verb}.log", "-v2", "--root", root]
    return [program, verb, *place, "--manage-cgroups=ignore", *more]


def failure(verb: str, image: Path, otherwise: str = "it left no log") -> str:
    """Return why `criu dump` or `criu restore` failed, as its log says it."""
    try:
        said = (image / f"{verb}.log").read_text(errors="replace")
    except OSError:
        return otherwise
    errors = [found for found in re.findall(r"Error \([^)]*\): (.+)$", said, re.MULTILINE) if not _NOISE.match(found)]
    return f"{errors[0]} (more in {image / f'{verb}.log'})" if errors else f"see {image / f'{verb}.log'}"


def external_mounts(pid: int) -> dict[str, str]:
    """Map the mount points of a process that are something of the host to where that is on the host."""
    host: dict[str, tuple[str, str]] = {}
    for device, root, point in _mounts("self"):
        host.setdefault(device, (root, point))
    found = {}
    for device, root, point in _mounts(str(pid)):
        if point != "/" and device in host:
            above, where = host[device]
            below = root if above == "/" else root.removeprefix(above)
            found[point] = (where.rstrip("/") + below).rstrip("/") or "/"
    return found


def _mounts(process: str) -> list[tuple[str, str, str]]:
    """Return (device, root, mount point) of each mount of a process."""
    text = Path(f"/proc/{process}/mountinfo").read_text()
    fields = (line.split(" ", 5) for line in text.splitlines())
    return [(line[2], _unescaped(line[3]), _unescaped(line[4])) for line in fields]


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
