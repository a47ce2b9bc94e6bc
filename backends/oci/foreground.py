"""Standing in for a program: its signals, its terminal and its exit code, for `run` and `exec` without --detach."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import termios
import tty
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from backends.kernel import linux
from backends.oci import signalling
from backends.oci.terminal import set_output_flag

if TYPE_CHECKING:
    from backends.oci.readiness import Readiness

_NOT_PASSED_ON = frozenset(
    {signal.SIGCHLD, signal.SIGURG, signal.SIGKILL, signal.SIGSTOP, signal.SIGWINCH, signal.SIGPIPE,
     signal.SIGTTIN, signal.SIGTTOU, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
)  # fmt: skip
_CHUNK = 65536


class Signals:
    """Signals to this process, from now on a stream of numbers. To be made before the program, so that none is lost."""

    def __init__(self) -> None:
        self.fd, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._write_end, False)
        self._wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in signal.valid_signals() - _NOT_PASSED_ON | {signal.SIGWINCH}:
            with suppress(OSError, ValueError):
                signal.signal(number, _note)

    def read(self) -> bytes:
        """Return the numbers that came since."""
        with suppress(BlockingIOError):
            return os.read(self.fd, 4096)
        return b""


def _note(number: int, frame: Any) -> None:
    """The wake-up pipe has it."""


def stay_parent() -> None:
    """Become who orphans below us go to, so that a program's exit code reaches us though its maker has ended."""
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)


class Foreground:
    """This process in the place of the program until that ends."""

    def __init__(
        self, pid: int, pidfd: int, signals: Signals, master: int | None = None, ready: Readiness | None = None
    ) -> None:
        self._pid, self._pidfd = pid, pidfd
        self._signals = signals
        self._master = master
        self._ready = ready
        """What says that the program is ready, until it has."""

        self._host = host_terminal() if master is not None else None
        self._saved: list[Any] | None = None
        self._to_program = b""

    def run(self) -> int:
        """Return the program's exit code: 128+n for signal n."""
        if self._master is None:
            return self._wait()
        self._prepare_terminal()
        try:
            code = self._wait()
            self._drain()
            return code
        finally:
            self._restore()

    def _wait(self) -> int:
        watch = select.poll()
        watch.register(self._signals.fd, select.POLLIN)
        watch.register(self._pidfd, select.POLLIN)
        if self._master is not None:
            os.set_blocking(self._master, False)
            watch.register(self._master, select.POLLIN)
            with suppress(OSError):
                watch.register(0, select.POLLIN)
        if self._ready is not None:
            watch.register(self._ready.fd, select.POLLIN)
        while True:
            ready = dict(watch.poll())
            if self._signals.fd in ready:
                self._pass_on()
            if self._ready is not None and self._ready.fd in ready and self._ready.hear(self._pid):
                watch.unregister(self._ready.fd)
                self._ready.close()
                self._ready = None
            if self._master is not None:
                self._copy(ready, watch)
            if self._pidfd in ready:
                return reap(self._pid)

    def _pass_on(self) -> None:
        for number in self._signals.read():
            if number == signal.SIGWINCH:
                self._resize()
            elif number != signal.SIGCHLD:
                with suppress(OSError):
                    signalling.send(self._pidfd, number)

    # ── the terminal ────────────────────────────────────────────────────────────────────────────────

    def _prepare_terminal(self) -> None:
        assert self._master is not None
        self._resize()
        if self._host is not None:
            self._saved = termios.tcgetattr(self._host)
            tty.setraw(self._host)
            set_output_flag(self._host, termios.OPOST, on=True)  # as runc: the program's terminal leaves newlines alone

    def _restore(self) -> None:
        if self._saved is not None and self._host is not None:
            with suppress(termios.error):
                termios.tcsetattr(self._host, termios.TCSADRAIN, self._saved)

    def _resize(self) -> None:
        if self._host is None or self._master is None:
            return
        with suppress(OSError):
            size = fcntl.ioctl(self._host, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def _copy(self, ready: dict[int, int], watch: select.poll) -> None:
        assert self._master is not None
        if ready.get(0):
            self._read_input(watch)
        events = ready.get(self._master, 0)
        if self._to_program and events & select.POLLOUT:
            self._feed(watch)
        if events & (select.POLLIN | select.POLLHUP) and not self._read_output():
            watch.unregister(self._master)
            with suppress(KeyError):
                watch.unregister(0)

    def _read_input(self, watch: select.poll) -> None:
        try:
            data = os.read(0, _CHUNK)
        except OSError:
            data = b""
        if not data:
            watch.unregister(0)
            return
        self._to_program += data
        self._feed(watch)

    def _feed(self, watch: select.poll) -> None:
        """Give the program what was typed; while it does not read, nothing more is taken."""
        assert self._master is not None
        try:
            self._to_program = self._to_program[os.write(self._master, self._to_program) :]
        except BlockingIOError:
            pass
        except OSError:
            self._to_program = b""
        with suppress(KeyError, FileNotFoundError):
            watch.modify(self._master, select.POLLIN | (select.POLLOUT if self._to_program else 0))
            watch.modify(0, 0 if self._to_program else select.POLLIN)

    def _read_output(self) -> bool:
        """Copy what it printed; False at the end of it."""
        assert self._master is not None
        try:
            data = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # EIO: nobody has the other side open any more
            return False
        write_all(1, data)
        return bool(data)

    def _drain(self) -> None:
        """What it printed last may still be on the way; others that hold the terminal open do not keep us."""
        assert self._master is not None
        watch = select.poll()
        watch.register(self._master, select.POLLIN)
        while watch.poll(0) and self._read_output():
            continue


def host_terminal() -> int | None:
    """Return the terminal that this process talks to, as runc finds it; None without one."""
    for fd in (2, 1, 0):
        with suppress(OSError):
            if os.isatty(fd):
                return fd
    try:
        return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None


def terminal_size() -> tuple[int, int] | None:
    """Return (rows, columns) of the terminal that this process talks to."""
    fd = host_terminal()
    if fd is None:
        return None
    with suppress(OSError):
        columns, rows = os.get_terminal_size(fd)
        return (rows, columns) if rows and columns else None
    return None


def reap(pid: int) -> int:
    """Return the exit code of a child that has ended; of others nothing is to be learnt (255)."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return 255
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def write_all(fd: int, data: bytes) -> None:
    """Write all of it; what nobody reads any more is dropped."""
    with suppress(BrokenPipeError, OSError):
        while data:
            data = data[os.write(fd, data) :]
