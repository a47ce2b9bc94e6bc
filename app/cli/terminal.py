"""The user's own terminal and signals while a program in a guest has them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import termios
import tty
from contextlib import suppress
from types import FrameType
from typing import Any

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that are handed on to the guest."""

DETACH_KEYS = b"\x10\x11"
"""Ctrl-P Ctrl-Q, as docker has it."""

CONSOLE_ESCAPE = b"\x1d"
"""Ctrl-], as telnet and virsh have it."""


def window_size(fd: int) -> tuple[int, int] | None:
    """Return (rows, columns) of a terminal; None if it is none or does not know."""
    try:
        rows, columns = termios.tcgetwinsize(fd)
    except (termios.error, OSError):
        return None
    return (rows, columns) if rows and columns else None


def terminal_size() -> tuple[int, int] | None:
    """Return the size of the terminal that stdin, stdout or stderr is on."""
    return next((size for fd in (1, 0, 2) if (size := window_size(fd)) is not None), None)


class RawTerminal:
    """Hands each key to the guest as it is; leaving it puts the terminal back.

    A guard process, a shell that waits for the end of a pipe, puts it back when we are killed with SIGKILL.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[Any] = []
        self._guard: int | None = None

    def __enter__(self) -> RawTerminal:
        self._saved = list(termios.tcgetattr(self._fd))
        self._guard = _start_guard(self._fd)
        tty.setraw(self._fd, termios.TCSADRAIN)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(termios.error):  # the terminal is gone; there is nothing to put back
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)
        if self._guard is not None:
            _dismiss(self._guard)
            self._guard = None


def _start_guard(fd: int) -> int | None:
    """Start the guard and return the pipe that holds it; None where the tools for it are missing."""
    import subprocess

    copy = os.dup(fd)
    try:
        settings = subprocess.run(["stty", "-g"], stdin=copy, capture_output=True, check=True).stdout.decode().strip()
        reading, writing = os.pipe()
        # The terminal comes as 1 and stays as 4: a shell need not know descriptors of two digits.
        script = 'trap "" HUP INT QUIT TERM TSTP TTOU; read -r word; [ "$word" = done ] || stty "$1" <&4'
        # Its parent may die at any time and is not there to wait for it: the shell in between lets init adopt it.
        subprocess.run(
            ["sh", "-c", 'exec 3<&0 4<&1; sh -c "$1" guard "$2" <&3 >/dev/null 2>&1 &', "guard", script, settings],
            stdin=reading,
            stdout=copy,
            start_new_session=True,
            check=True,
        )
        os.close(reading)
        return writing
    except (OSError, subprocess.SubprocessError):
        return None
    finally:
        os.close(copy)


def _dismiss(pipe: int) -> None:
    with suppress(OSError):  # it was killed
        os.write(pipe, b"done\n")
    os.close(pipe)


class Signals:
    """Collects signals in a pipe that can be waited for with other descriptors; leaving it puts the old ways back."""

    def __init__(self, *wanted: signal.Signals) -> None:
        self._wanted = wanted
        self._before: dict[signal.Signals, Any] = {}
        self._writing = -1
        self._wakeup_before = -1
        self.fd = -1
        """Readable when a signal came."""

    def __enter__(self) -> Signals:
        self.fd, self._writing = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._writing, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in self._wanted:
            self._before[number] = signal.signal(number, _ignore)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._wanted)  # app.cli.quick keeps them until somebody listens
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self.fd)
        os.close(self._writing)

    def take(self) -> list[int]:
        """Return the signals that came since the last time."""
        try:
            return [number for number in os.read(self.fd, 256) if number in self._before]
        except BlockingIOError:
            return []


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing: the wake-up descriptor has told us already."""


def parse_keys(text: str) -> bytes:
    """Return what the terminal sends for keys such as "ctrl-p,ctrl-q", "ctrl-a,d" or "ctrl-]". Raises UsageError."""
    from backends.errors import UsageError

    found = b""
    for key in text.split(","):
        name = key.lower().removeprefix("ctrl-")
        if key.lower() != name and len(name) == 1 and "@" <= name.upper() <= "_":
            found += bytes([ord(name.upper()) - 64])
        elif len(key) == 1 and key.isascii() and key.isprintable():
            found += key.encode()
        else:
            hint = "keys with commas between them, each a character or ctrl- and one of a-z @ [ ] ^ _ and backslash"
            raise UsageError(f"--detach-keys: {key!r} is no key", hint=hint)
    return found


def add_detach_keys(parser: argparse.ArgumentParser) -> None:
    """Add --detach-keys."""
    parser.add_argument(
        "--detach-keys",
        type=parse_keys,
        default=DETACH_KEYS,
        metavar="KEYS",
        help="what leaves it alone again (ctrl-p,ctrl-q)",
    )


class DetachKeys:
    """Finds a sequence of keys in the input and holds back its beginning until the rest is there."""

    def __init__(self, keys: bytes) -> None:
        self._keys, self._held = keys, b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what is to be passed on, and True if the keys were pressed."""
        data = self._held + data
        self._held = b""
        before, found, _ = data.partition(self._keys)
        if found:
            return before, True
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:length]):
                self._held = data[-length:]
                return data[:-length], False
        return data, False


def need_terminal(what: str) -> None:
    """Raise unless stdin is a terminal."""
    from backends.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError(f"{what}: stdin is no terminal", hint="Leave -t out to use pipes and files")
