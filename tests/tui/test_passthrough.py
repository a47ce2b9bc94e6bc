"""The user's terminal is handed to a program and comes back as it was."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator

import pytest

from app.tui.passthrough import Outcome, pass_through
from backends.errors import Unsupported
from tests.tools.waiting import wait_until


class ShellSession:
    """A program on a pseudo-terminal of its own, as a backend's exec would give it."""

    def __init__(self, *command: str) -> None:
        self.terminal_fd: int | None
        self.terminal_fd, slave = pty.openpty()
        self._process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.sizes: list[tuple[int, int]] = []
        self.is_closed = False

    def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    def wait(self) -> int:
        return self._process.wait(5)

    def close(self) -> None:
        self.is_closed = True
        self._process.kill()
        self._process.wait(5)
        if self.terminal_fd is not None:
            os.close(self.terminal_fd)
            self.terminal_fd = None


class Person:
    """The user's side of the terminal: reads all the time, acts when something is to be seen."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.seen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._acts: list[threading.Thread] = []

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 4096)
            except OSError:
                return
            self.seen += data

    def when(self, text: bytes, act: Callable[[], object]) -> None:
        def wait() -> None:
            wait_until(lambda: text in self.seen, what=f"{text!r} on the terminal")
            act()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        self._acts.append(thread)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def close(self) -> None:
        for thread in self._acts:
            thread.join(5)
        os.close(self.slave)  # ends the reader; only then may the number of its descriptor be used again
        self._reader.join(5)
        os.close(self.master)


@pytest.fixture
def person() -> Iterator[Person]:
    someone = Person()
    yield someone
    someone.close()


def visit(session: ShellSession, person: Person) -> Outcome:
    before = termios.tcgetattr(person.slave)
    try:
        return pass_through(session, "shell in web", stdin=person.slave, stdout=person.slave)
    finally:
        assert termios.tcgetattr(person.slave) == before
        assert session.is_closed


def test_keys_reach_the_program_and_its_output_the_terminal(person: Person) -> None:
    session = ShellSession("cat")
    person.when(b"comes back", lambda: person.type(b"hello\r"))
    person.when(b"hello\r\nhello", lambda: person.type(b"\x1d"))
    assert visit(session, person).detached
    assert b"Ctrl-]" in person.seen


def test_the_visit_ends_with_the_program(person: Person) -> None:
    outcome = visit(ShellSession("sh", "-c", "echo bye"), person)
    assert not outcome.detached
    assert outcome.signal is None
    wait_until(lambda: b"bye" in person.seen, what="bye")


def test_ctrl_c_goes_to_the_program_and_not_to_us(person: Person) -> None:
    session = ShellSession("sh", "-c", "trap 'echo caught; exit' INT; echo ready; while :; do sleep 0.05; done")
    person.when(b"ready", lambda: person.type(b"\x03"))
    # The session's terminal is not the controlling one of sh here, so the byte arrives as text: it must not end us.
    person.when(b"^C", lambda: person.type(b"\x1d"))
    assert visit(session, person).detached


def test_sigterm_ends_the_visit_and_is_told(person: Person) -> None:
    session = ShellSession("cat")
    person.when(b"comes back", lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert visit(session, person).signal == signal.SIGTERM


def test_the_size_of_the_terminal_is_passed_on(person: Person) -> None:
    session = ShellSession("cat")
    termios.tcsetwinsize(person.slave, (33, 99))

    def grow() -> None:
        termios.tcsetwinsize(person.slave, (44, 111))
        os.kill(os.getpid(), signal.SIGWINCH)
        wait_until(lambda: (44, 111) in session.sizes)
        person.type(b"\x1d")

    person.when(b"comes back", grow)
    visit(session, person)
    assert session.sizes[0] == (33, 99)


def test_what_the_program_left_set_is_taken_back(person: Person) -> None:
    visit(ShellSession("printf", r"\033[?25l\033[31m\033[?1000h"), person)
    wait_until(lambda: b"\x1b[?25h" in person.seen and b"\x1b[?1000l" in person.seen)


def test_a_session_without_a_terminal_is_refused_and_closed(person: Person) -> None:
    session = ShellSession("cat")
    fd, session.terminal_fd = session.terminal_fd, None
    with pytest.raises(Unsupported):
        visit(session, person)
    assert fd is not None
    os.close(fd)
