"""The last moments before the user's program: who it runs as, where, and execve.

Shared by a container's init and by exec. All of it runs inside the container, where nothing may be imported:
the files there are the image's.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from backends.errors import StartFailed
from backends.kernel import linux
from backends.oci import messages
from backends.oci import process as privileges
from backends.oci.messages import StepRunner


class ProgramFailed(StartFailed):
    """The program cannot be run; the words are those of runc, which Docker turns into 126 and 127."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text, exit_code=127 if number in (errno.ENOENT, errno.ENOTDIR) else 126)
        self.errno = number


@dataclass(frozen=True, slots=True)
class Program:
    """What is left to do: execve."""

    path: str
    args: Sequence[str]
    environment: Mapping[str, str]


_BUILT_IN = ("BuiltinImporter", "FrozenImporter")


def forbid_imports() -> None:
    """From here on a forgotten import fails, rather than run a file of the image's."""
    sys.path.clear()
    sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "__name__", "") in _BUILT_IN]


def become(
    runner: StepRunner,
    config: Mapping[str, Any],
    process: Mapping[str, Any],
    user: str | None,
    *,
    first_fd: int,
    more_environment: Sequence[str] = (),
    take_listener: Callable[[int], None],
) -> Program:
    """Turn this process into the container's user, and find its program. Raises ProgramFailed, OSError.

    first_fd is the first descriptor that the program does not get. take_listener takes the descriptor of
    a filter that asks another process about system calls.
    """
    account = privileges.account_of(process, user)
    linux.close_range_cloexec(first_fd)
    environment = environment_of([*(process.get("env") or ()), *more_environment], account.home)
    os.umask((process.get("user") or {}).get("umask", 0o022))
    steps, last = privileges.split_filter(privileges.privilege_steps(config, process, account))
    _run(runner, steps, take_listener)
    # A change of user may have made our memory readable to that user (fs.suid_dumpable).
    with suppress(OSError):
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
    # What a filter may forbid is done before one that comes last.
    args = process.get("args") or ()
    path = find(args[0] if args else "", environment.get("PATH", ""))
    _run(runner, last, take_listener)
    return Program(path, args, environment)


def _run(runner: StepRunner, steps: Sequence[Any], take_listener: Callable[[int], None]) -> None:
    for step in steps:
        result = runner.run(step)
        if step.kind == "seccomp" and isinstance(result, int):
            take_listener(result)


def send_listener(sync: socket.socket, fd: int) -> None:
    """Send the descriptor of a filter to the runtime."""
    messages.send(sync, {"seccomp": True}, [fd])
    os.close(fd)


def listening(sockets: int) -> list[str]:
    """Return the variables that tell a program of sockets it gets (sd_listen_fds(3)); called in its process."""
    return [f"LISTEN_FDS={sockets}", f"LISTEN_PID={os.getpid()}"] if sockets else []


def environment_of(entries: Sequence[str], home: str) -> dict[str, str]:
    """Return the environment; of a name that is there twice the last holds."""
    pairs = (entry.partition("=") for entry in entries)
    environment = {name: value for name, _, value in pairs}
    if not environment.get("HOME"):
        environment["HOME"] = home
    return environment


def find(name: str, path: str) -> str:
    """Return the file that execve is to run. Raises ProgramFailed."""
    if "/" in name:
        number = _why_not(name)
        if number:
            said = os.strerror(number).lower()
            is_missing = number in (errno.ENOENT, errno.ENOTDIR)
            raise ProgramFailed(f'exec: "{name}": {f"stat {name}: " if is_missing else ""}{said}', number)
        return name
    for folder in path.split(":") if name else ():
        # As in runc nothing is run from the working directory because PATH has an empty entry.
        if folder.startswith("/") and not _why_not(f"{folder}/{name}"):
            return f"{folder}/{name}"
    raise ProgramFailed(f'exec: "{name}": executable file not found in $PATH', errno.ENOENT)


def _why_not(path: str) -> int:
    """Return the error that running a file would give, 0 if none is foreseen."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return error.errno or errno.ENOENT
    if stat.S_ISDIR(mode):
        return errno.EISDIR
    # Where even "/" seems not to be there, the container's filter forbids the question; execve will answer it.
    allowed = os.access(path, os.X_OK, effective_ids=True) or not os.access("/", os.F_OK, effective_ids=True)
    return 0 if allowed and mode & 0o111 else errno.EACCES


def execute(program: Program, first_fd: int, gate_fd: int) -> None:
    """Become the program. Never returns; raises ProgramFailed.

    Every other descriptor is closed, not only marked: the program's path may name one (CVE-2024-21626).
    """
    if gate_fd > first_fd:
        linux.close_range(first_fd, gate_fd - 1)
    linux.close_range(max(first_fd, gate_fd + 1))
    try:
        os.execve(program.path, list(program.args), dict(program.environment))
    except OSError as error:
        said = (error.strerror or "").lower()
        raise ProgramFailed(f"exec {program.path}: {said}", error.errno or 0) from error
