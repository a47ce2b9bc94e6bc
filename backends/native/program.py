"""The last moments before the user's program: who it runs as, its terminal, and execve.

Shared by a container's init and by exec sessions. All of it runs inside the container, after the pivot.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import stat
import termios
from collections.abc import Mapping, Sequence
from typing import Any

from backends.kernel import credentials, linux
from backends.native import protocol
from backends.native.plan import final_steps
from backends.trace import Recorder


class ExecFailed(Exception):
    """execve said no. exit_code is docker's: 127 not found, 126 found but not executable."""

    def __init__(self, program: str, error: OSError) -> None:
        super().__init__(f"cannot run {program!r}: {_reason(error)}")
        self.errno = error.errno or 0
        self.exit_code = 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "no such file or directory in the container, nor in its PATH"
    return error.strerror or str(error)


def become(
    config: Mapping[str, Any], user: str | None, recorder: Recorder, folder: str, extra_env: Sequence[str] = ()
) -> dict[str, str]:
    """Turn this process into the container's user and return the environment of its program."""
    process = config["process"]
    account = credentials.look_up(user or f"{process['user']['uid']}:{process['user']['gid']}")
    os.umask(process["user"].get("umask", 0o022))
    if user is None and process["user"]["uid"] == 0:
        account = credentials.look_up("0")
    linux.close_range_cloexec(3)
    steps = final_steps(config, account)
    # The working directory is looked up before the user changes, and again after: the first makes it
    # exist, the second refuses one that the user may not enter.
    os.makedirs(folder, exist_ok=True)
    recorder.run_all(steps)
    os.chdir(folder)
    if not os.getcwd().startswith("/"):
        raise OSError(errno.ENOENT, "the working directory is outside the container", folder)
    pairs = (entry.partition("=") for entry in (*process["env"], *extra_env))
    environment = {name: value for name, _, value in pairs}
    if not environment.get("HOME"):
        environment["HOME"] = account.home
    return environment


def open_terminal(sync: socket.socket, size: tuple[int, int] | None) -> int:
    """Make a pseudo-terminal on the container's own devpts, send its master out, and make it ours.

    Returns the slave, which is already the controlling terminal of a new session.
    """
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    slave = linux.open_pty_peer(master)
    if size is not None:
        linux.set_window_size(slave, *size)
    protocol.send(sync, {"terminal": True}, [master])
    os.close(master)
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return slave


def bind_console(slave: int) -> None:
    """Put the terminal at /dev/console, as programs expect of a first process (CVE-2025-52565: by descriptor)."""
    fd = os.open("/dev/console", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        linux.mount(f"/proc/self/fd/{slave}", f"/proc/self/fd/{fd}", "", linux.MS_BIND)
    finally:
        os.close(fd)


def use_as_stdio(stdio: Sequence[int]) -> None:
    """Make the descriptors 0, 1 and 2 of this process."""
    kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in stdio]
    for number, fd in enumerate(kept):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)


def reset_signals() -> None:
    """Give the program default signal dispositions and no blocked signals: what is ignored stays so over exec."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def execute(args: Sequence[str], environment: Mapping[str, str]) -> None:
    """execve the program, found in the container's PATH. Returns never; raises ExecFailed."""
    program = args[0]
    candidates = [program] if "/" in program else _in_path(program, environment.get("PATH", ""))
    found = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for candidate in candidates:
        try:
            if stat.S_ISDIR(os.stat(candidate).st_mode):
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            os.execve(candidate, list(args), dict(environment))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                found = error
            elif "/" in program and os.path.exists(candidate):
                found = OSError(errno.ENOENT, "its interpreter or loader is missing")
    raise ExecFailed(program, found)


def _in_path(program: str, path: str) -> list[str]:
    return [f"{folder or '.'}/{program}" for folder in path.split(":")] if program else []
