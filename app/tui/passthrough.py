"""The user's terminal handed to a program in a guest, byte by byte, until it ends or the detach key is pressed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import tty
from collections.abc import Iterator
from dataclasses import dataclass

from backends.base import Backend
from backends.capabilities import Consoling, Executing
from backends.container import ExecSpec
from backends.errors import Unsupported
from backends.model import GuestRef
from backends.sessions import ExecSession

DETACH = 0x1D
"""Ctrl-], as in telnet and virsh console."""

SHELL = ("/bin/sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi")
CHUNK = 65536
RESET = b"\x1b[0m\x1b[?1l\x1b>\x1b[?7h\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b(B\x0f\r\n"


def open_shell(backend: Backend, ref: GuestRef, size: tuple[int, int]) -> ExecSession:
    """Start a shell with a terminal in a guest; blocks. Raises InnkeeperErrors."""
    if not isinstance(backend, Executing):
        raise Unsupported(f"{backend.title} cannot run programs in its guests")
    term = os.environ.get("TERM", "xterm-256color")
    return backend.exec(ref, ExecSpec(SHELL, env=(f"TERM={term}",), terminal=True, size=size))


def open_console(backend: Backend, ref: GuestRef, size: tuple[int, int]) -> ExecSession:
    """Open a guest's serial console; blocks. Raises InnkeeperErrors."""
    if not isinstance(backend, Consoling):
        raise Unsupported(f"{backend.title} has no consoles")
    return backend.console(ref)


@dataclass(slots=True)
class Outcome:
    """How the visit ended."""

    detached: bool = False
    signal: int | None = None
    """SIGTERM or SIGHUP came: the whole program is to end."""


def pass_through(session: ExecSession, title: str, *, stdin: int = 0, stdout: int = 1) -> Outcome:
    """Bridge the terminal and the session, blocking. The terminal is as before on every way out.

    Owns the session: it is closed in the end.
    """
    outcome = Outcome()
    try:
        if session.terminal_fd is None:
            raise Unsupported(f"{title}: it has no terminal")
        with _raw(stdin), _signals(session, outcome, stdin) as wake:
            _write(stdout, f"\x1b[2J\x1b[H[{title}; Ctrl-] comes back to Innkeeper]\r\n".encode())
            _pump(session.terminal_fd, stdin, stdout, wake, outcome)
    finally:
        session.close()
        # What the guest's program left set would trouble the shell: colours, modes, character sets.
        _write(stdout, RESET)
    return outcome


def _pump(terminal: int, stdin: int, stdout: int, wake: int, outcome: Outcome) -> None:
    poll = select.poll()
    for fd in (terminal, stdin, wake):
        poll.register(fd, select.POLLIN)
    while outcome.signal is None:
        ready = dict(poll.poll())
        if wake in ready:
            _read(wake)
        if terminal in ready:
            data = _read(terminal)
            if not data:
                return  # the program ended (EIO or end of file)
            _write(stdout, data)
        if stdin in ready:
            data = _read(stdin)
            keys, detach, _ = data.partition(bytes((DETACH,)))
            if keys:
                _write(terminal, keys)
            if detach or not data:
                outcome.detached = True
                return


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, CHUNK)
    except BlockingIOError:
        return b""
    except OSError:  # EIO: the other side of a pseudo-terminal is closed
        return b""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except OSError:
            return


@contextlib.contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Raw terminal within, restored on every way out."""
    try:
        before = termios.tcgetattr(fd)
    except termios.error:
        yield
        return
    tty.setraw(fd)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSAFLUSH, before)


@contextlib.contextmanager
def _signals(session: ExecSession, outcome: Outcome, stdin: int) -> Iterator[int]:
    """While the event loop stands still: pass size changes on, and let SIGTERM and SIGHUP end the visit."""
    wake_out, wake_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def resized(number: int, frame: object) -> None:
        rows, columns = window_size(stdin)
        session.resize(rows, columns)

    def ended(number: int, frame: object) -> None:
        outcome.signal = number
        with contextlib.suppress(OSError):
            os.write(wake_in, b"!")

    before = {number: signal.getsignal(number) for number in (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGWINCH, resized)
    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGHUP, ended)
    resized(0, None)
    try:
        yield wake_out
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(wake_out)
        os.close(wake_in)


def window_size(fd: int) -> tuple[int, int]:
    """Rows and columns of a terminal; 24 by 80 where it does not tell."""
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return 24, 80
    return rows or 24, columns or 80


def flush_output() -> None:
    """Let nothing of ours come after what the guest writes."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
