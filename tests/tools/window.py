"""One window of a tmux server of our own: the program in a real terminal, driven by keys."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.tools.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


class Window:
    """A shell in tmux, in which `run` starts the program. close() it."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._socket = f"inn-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        width, height = size
        # A shell around the program: what it prints afterwards shows that the terminal is usable again.
        self.tmux("-f", "/dev/null", "new-session", "-d", "-s", "inn", "-x", str(width), "-y", str(height),
                  "env -u TMUX PS1='prompt> ' bash --norc --noprofile")  # fmt: skip
        self.tmux("set-option", "-g", "status", "off")
        self.tmux("resize-window", "-t", "inn", "-x", str(width), "-y", str(height))
        self.see("prompt>")

    def tmux(self, *arguments: str) -> str:
        """Give a command to our tmux server and return what it prints."""
        done = subprocess.run(["tmux", "-L", self._socket, *arguments], capture_output=True, text=True, timeout=10)
        return done.stdout

    def run(self, *arguments: str) -> None:
        """Start the program, and say with what it ended."""
        words = [sys.executable, "-I", str(ROOT / "innkeeper.py"), *arguments]
        self.type(shlex.join(words) + "; echo left with $?\n")

    @property
    def text(self) -> str:
        """What is on the screen."""
        return self.tmux("capture-pane", "-p", "-t", "inn")

    @property
    def lines(self) -> list[str]:
        """The same, line by line."""
        return self.text.split("\n")

    def line_with(self, text: str) -> str:
        """The first line that has the text; empty if none has."""
        return next((line for line in self.lines if text in line), "")

    def press(self, *keys: str) -> None:
        """Press keys, in tmux's words."""
        self.tmux("send-keys", "-t", "inn", *keys)

    def type(self, text: str) -> None:
        """Type a text."""
        self.tmux("send-keys", "-t", "inn", "-l", text)

    def see(self, text: str, timeout_s: float = 15.0) -> None:
        """Wait until the text is on the screen."""
        try:
            wait_until(lambda: text in self.text, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"never saw {text!r}; the screen shows:\n{self.text}") from error

    def until(self, condition: Callable[[], object], timeout_s: float = 15.0) -> None:
        """Wait until the condition holds."""
        try:
            wait_until(lambda: bool(condition()), timeout_s)
        except AssertionError as error:
            raise AssertionError(f"did not come about; the screen shows:\n{self.text}") from error

    @property
    def pane_pid(self) -> int:
        """Process id of the shell."""
        return int(self.tmux("display-message", "-p", "-t", "inn", "#{pane_pid}"))

    def close(self) -> None:
        """End our tmux server and all in it."""
        self.tmux("kill-server")
