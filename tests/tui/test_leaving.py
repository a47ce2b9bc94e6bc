"""Every way out of the real program: the terminal is clean and the process is gone."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyte
import pytest

from tests.tools.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from pathlib import Path
from app.core.settings import settings_for
from app.tui.app import run
options = {"simulated": {"guests": "12"}}
sys.exit(run(settings_for(root=Path(sys.argv[1]), backends=["simulated"], options=options)))
"""
ON, OFF = (1049, 1000, 1006, 2004, 1004), (25, 7)
"""Modes of the terminal that the screen sets, and those that it resets; leaving turns each round."""

SET_MODES = (*(b"\x1b[?%dh" % mode for mode in ON), *(b"\x1b[?%dl" % mode for mode in OFF))
RESET_MODES = (*(b"\x1b[?%dl" % mode for mode in ON), *(b"\x1b[?%dh" % mode for mode in OFF))


class Session:
    """The screen on a pseudo-terminal that is its controlling one."""

    def __init__(self, root: Path, env: dict[str, str] | None = None, *, controlling: bool = True) -> None:
        self.master, self._slave = pty.openpty()
        termios.tcsetwinsize(self.master, (30, 100))
        self.before = termios.tcgetattr(self._slave)
        self.shown = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(root)], cwd=ROOT, stdin=self._slave, stdout=self._slave,
            stderr=self._slave, start_new_session=True,
            preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if controlling else None,
            env={**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **(env or {})},
        )  # fmt: skip
        os.set_blocking(self.master, False)

    def look(self) -> bytes:
        """All that was written so far."""
        while True:
            try:
                data = os.read(self.master, 65536)
            except BlockingIOError:
                return self.shown
            except OSError:
                return self.shown
            if not data:
                return self.shown
            self.shown += data

    @property
    def text(self) -> str:
        """What a person sees now."""
        screen = pyte.Screen(100, 30)
        pyte.ByteStream(screen).feed(self.look())
        return "\n".join(screen.display)

    def see(self, text: str) -> None:
        wait_until(lambda: text in self.text, what=f"{text!r} on the screen")

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def hang_up(self) -> None:
        """Close the user's side, as a dropped connection does."""
        os.close(self._slave)
        os.close(self.master)
        self.master = self._slave = -1

    def ended(self) -> int:
        def code() -> int | None:
            self.look() if self.master >= 0 else None
            return self.process.poll() if self.process.poll() != 0 else -1000

        found = wait_until(lambda: code(), what="the program ended")
        return 0 if found == -1000 else found

    @property
    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(5)
        if self.master >= 0:
            os.close(self._slave)
            os.close(self.master)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    opened = Session(tmp_path)
    try:
        opened.see("web-1")
        yield opened
    finally:
        opened.close()


def assert_clean(session: Session) -> None:
    shown = session.look()
    for made, undone in zip(SET_MODES, RESET_MODES, strict=True):
        assert made in shown
        assert shown.rindex(undone) > shown.rindex(made), undone
    assert session.settings == session.before
    assert b"Traceback" not in shown


@pytest.mark.parametrize("keys", [b"q", b"\x03", b"\x11"], ids=["q", "Ctrl-C", "Ctrl-Q"])
def test_a_key_leaves_and_the_terminal_is_as_before(session: Session, keys: bytes) -> None:
    session.press(keys)
    assert session.ended() == 0
    assert_clean(session)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_it_and_the_terminal_is_as_before(session: Session, number: signal.Signals, code: int) -> None:
    session.process.send_signal(number)
    assert session.ended() == code
    assert_clean(session)


def test_it_ends_when_the_terminal_hangs_up(session: Session) -> None:
    session.hang_up()
    session.ended()


def test_it_ends_without_spinning_when_the_terminal_goes_away_and_no_signal_tells(tmp_path: Path) -> None:
    session = Session(tmp_path, controlling=False)  # so the kernel sends no SIGHUP
    try:
        session.see("web-1")
        process = psutil.Process(session.process.pid)
        before_s = sum(process.cpu_times()[:2])
        session.hang_up()

        def used() -> float:
            try:
                return sum(process.cpu_times()[:2]) - before_s
            except psutil.NoSuchProcess:
                return 0.0

        most = 0.0

        def gone() -> bool:
            nonlocal most
            most = max(most, used())
            return session.process.poll() is not None

        wait_until(gone, what="the program ended")
        assert most < 2.0
    finally:
        session.close()


def test_ctrl_z_suspends_and_fg_brings_the_screen_back(session: Session) -> None:
    session.press(b"\x1a")
    wait_until(lambda: psutil.Process(session.process.pid).status() == psutil.STATUS_STOPPED)
    assert session.settings == session.before
    length = len(session.look())
    session.process.send_signal(signal.SIGCONT)
    wait_until(lambda: b"\x1b[?1049h" in session.look()[length:])
    session.see("web-1")
    session.press(b"q")
    assert session.ended() == 0
    assert_clean(session)


def test_ctrl_l_draws_everything_anew(session: Session) -> None:
    session.see("q quit")
    os.write(session.master, b"")
    length = len(session.look())
    session.press(b"\x0c")
    wait_until(lambda: b"NAME" in session.look()[length:] and b"web-1" in session.look()[length:])


def test_the_first_picture_comes_before_textual(tmp_path: Path) -> None:
    session = Session(tmp_path)
    try:
        wait_until(lambda: b"Innkeeper" in session.look())
        assert session.look().startswith(b"\x1b[?1049h")
    finally:
        session.close()


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}, {"TERM": "vt100"}],
                         ids=["NO_COLOR", "ASCII", "vt100"])  # fmt: skip
def test_it_can_be_read_on_poor_terminals(tmp_path: Path, env: dict[str, str]) -> None:
    session = Session(tmp_path, env)
    try:
        session.see("web-1")
        session.see("running")
        shown = session.look()
        if "NO_COLOR" in env:
            assert not any(code in shown for code in (b"[0;3", b"[0;1;3", b";38;", b"[0;9"))
        if "LC_ALL" in env:
            assert shown.isascii()
        session.press(b"q")
        assert session.ended() == 0
    finally:
        session.close()


def test_without_a_terminal_it_says_what_works_instead(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert "the screen needs a terminal" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def stall(session: Session) -> None:
    """Type on without reading, until the terminal takes nothing more and for many frames after that."""
    session.see("web-1")
    queued, unchanged = -1, 0
    while unchanged < 60:
        session.press(b"\x0c")  # draw all anew
        wait_until(lambda: not waiting(session._slave))
        time.sleep(0.02)  # as fast as a person types; faster would be one frame for several keys
        before, queued = queued, waiting(session.master)
        unchanged = unchanged + 1 if queued == before else 0


def waiting(fd: int) -> int:
    """Bytes that were written and not read yet."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_terminal_that_takes_nothing_does_not_hold_the_program_up(session: Session) -> None:
    stall(session)
    session.process.send_signal(signal.SIGTERM)
    wait_until(lambda: session.process.poll() is not None)
    assert session.process.returncode == 143


def test_a_terminal_that_was_stopped_shows_the_newest_frame_and_not_all_that_came_before(session: Session) -> None:
    stall(session)
    session.press(b"?")
    before = len(session.shown)
    session.see("Esc goes back")
    assert len(session.shown) - before < 40_000
