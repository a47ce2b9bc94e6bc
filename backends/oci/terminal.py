"""A container's terminal: made on its own devpts, its master sent out, its slave made ours."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without an enumeration made for each answer
import array
import errno
import fcntl
import os
import signal
import socket
import stat
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from backends.kernel import linux, rooted
from backends.oci import messages

_SIGNALS = tuple(int(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_MASTER_NAME = b"/dev/ptmx"
"""What runc sends beside the descriptor: the name under which it was opened."""


def size_of(process: Mapping[str, Any], wanted: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return (rows, columns) of a new terminal: as the caller says, else process.consoleSize."""
    if wanted is not None:
        return wanted
    size = process.get("consoleSize")
    return (size["height"], size["width"]) if size and size["height"] and size["width"] else None


def open_pair(root: str, size: tuple[int, int] | None) -> tuple[int, int]:
    """Return master and slave of a new terminal of the devpts below root; the size is set before anybody looks."""
    master = _open_master(root)
    try:
        slave = linux.open_pty_peer(master)
    except BaseException:
        os.close(master)
        raise
    if size is not None:
        linux.set_window_size(slave, *size)
    return master, slave


def _open_master(root: str) -> int:
    for path in ("/dev/pts/ptmx", "/dev/ptmx"):
        with suppress(FileNotFoundError):
            fd = rooted.open_in_root(root, path, os.O_RDWR | os.O_NOCTTY)
            if os.fstat(fd).st_rdev == os.makedev(5, 2):
                return fd
            os.close(fd)
    raise OSError(errno.ENOENT, "the container has no terminals: nothing of type devpts is mounted", "/dev/pts")


def bind_console(root: str, slave: int) -> None:
    """Put the terminal at /dev/console of a container, as programs expect of a first process.

    By descriptor on both sides (CVE-2025-52565): the image cannot say what is bound, nor where.
    """
    try:
        place = rooted.open_in_root(root, "/dev/console", os.O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:
        place = rooted.open_in_root(root, "/dev/console", os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    try:
        if stat.S_ISLNK(os.fstat(place).st_mode):
            raise OSError(errno.ELOOP, "is a symbolic link", "/dev/console")
        linux.mount(f"/proc/self/fd/{slave}", f"/proc/self/fd/{place}", "", linux.MS_BIND)
    finally:
        os.close(place)


def send_master(console: int, master: int) -> None:
    """Send the master over a connected AF_UNIX socket (--console-socket), as runc does."""
    with socket.socket(fileno=os.dup(console)) as sock:
        sock.sendmsg([_MASTER_NAME], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [master]))])


def connect(path: str) -> int:
    """Connect to the socket of --console-socket; the caller closes it. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect(path)
        return sock.detach()


def attach(
    root: str,
    process: Mapping[str, Any],
    size: tuple[int, int] | None,
    console: int | None,
    sync: socket.socket,
    *,
    is_console: bool = False,
    plain_newlines: bool = False,
) -> None:
    """Give this process, which leads a session, a terminal of its own; its master goes to console, else to sync.

    is_console puts it at /dev/console, too, in the mount namespace we are in. plain_newlines: see CreateRequest.
    """
    master, slave = open_pair(root, size_of(process, size))
    if plain_newlines:
        set_output_flag(slave, termios.ONLCR, on=False)
    if is_console:
        bind_console(root, slave)
    make_controlling(slave)
    if console is None:
        messages.send(sync, {"terminal": True}, [master])
    else:
        send_master(console, master)
        os.close(console)
    os.close(master)
    use_as_stdio((slave, slave, slave))
    os.close(slave)


def set_output_flag(fd: int, flag: int, *, on: bool) -> None:
    """Switch one flag of a terminal's output side."""
    attributes = termios.tcgetattr(fd)
    attributes[1] = attributes[1] | flag if on else attributes[1] & ~flag
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def make_controlling(slave: int) -> None:
    """Make the slave the controlling terminal of this process, which leads a session of its own."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def use_as_stdio(stdio: Sequence[int]) -> None:
    """Make the descriptors 0, 1 and 2 of this process."""
    kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in stdio]
    for number, fd in enumerate(kept):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)


def reset_signals() -> None:
    """Give the program default signal dispositions and no blocked signals: what is ignored stays so over exec."""
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        if _signal.getsignal(number) != _signal.SIG_DFL:
            _signal.signal(number, _signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
