"""A person at a terminal: a program on a pseudo-terminal that is its controlling one."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Sequence
from typing import Any


class Terminal:
    """Runs a program on a pseudo-terminal of its own; leaving it kills the program."""

    def __init__(self, command: Sequence[str], *, size: tuple[int, int] = (30, 100), env: dict[str, str]) -> None:
        self.fd, self._slave = pty.openpty()
        termios.tcsetwinsize(self.fd, size)
        self.shown = b""
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=env,
            start_new_session=True,
            preexec_fn=self._control,
        )

    def _control(self) -> None:
        import fcntl

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        os.close(self.fd)
        os.close(self._slave)

    @property
    def settings(self) -> list[Any]:
        """The terminal's settings now."""
        return termios.tcgetattr(self._slave)

    @property
    def is_raw(self) -> bool:
        """True while keys are handed on as they are."""
        return not self.settings[3] & termios.ICANON

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self.fd, keys)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size, as a terminal emulator does."""
        termios.tcsetwinsize(self.fd, (rows, columns))

    def wait_for(self, text: bytes, timeout_s: float = 10.0) -> bytes:
        """Read until the text was shown after the last text waited for; return what came."""
        deadline = time.monotonic() + timeout_s
        while text not in self.shown:
            if not select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{text!r} was not shown; this was: {self.shown!r}")
            self.shown += os.read(self.fd, 65536)
        before, _, self.shown = self.shown.partition(text)
        return before

    def wait(self, timeout_s: float = 10.0) -> int:
        """Return the exit code, reading on meanwhile so that the program is never held up."""
        deadline = time.monotonic() + timeout_s
        while (code := self.process.poll()) is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"it goes on; it showed {self.shown!r}")
            if select.select([self.fd], [], [], 0.05)[0]:
                self.shown += os.read(self.fd, 65536)
        return code
