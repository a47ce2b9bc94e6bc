"""The terminal driver: quieter than Textual's own, and it notices when the terminal is gone."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from typing import IO, TYPE_CHECKING, Any, cast

from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from textual.app import App


MAX_WAITING = 3
"""Pieces that may wait to be written: a frame is three. Textual holds the event loop up at 30."""


class TerminalDriver(LinuxDriver):
    """Reports clicks and the wheel, not every movement of the mouse; survives a terminal that goes away.

    When the terminal hangs up (dropped SSH, closed window) writing fails and reading returns at once, for ever.
    A thread that only waits for the hang-up tells the app, and neither reader nor writer spins.
    """

    def __init__(
        self, app: App[object], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._file = cast("Any", _Unbreakable(cast("IO[str]", self._file)))
        self._watcher: threading.Thread | None = None

    @property
    def is_behind(self) -> bool:
        """True while frames wait: the line is slower than what is written, or the terminal is stopped (Ctrl-S)."""
        return self._writer_thread is not None and self._writer_thread._queue.qsize() > MAX_WAITING

    def start_application_mode(self) -> None:
        super().start_application_mode()  # type: ignore[no-untyped-call]
        if self._watcher is None and self.input_tty:
            self._watcher = threading.Thread(target=self._watch, name="terminal hang-up", daemon=True)
            self._watcher.start()

    def _get_terminal_size(self) -> tuple[int, int]:
        # Textual's own believes COLUMNS and LINES, which some shells export once and never change again.
        try:
            return tuple(os.get_terminal_size(self.fileno))  # type: ignore[return-value]
        except OSError:
            return super()._get_terminal_size()

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self.fileno, 0)  # asks for nothing, so only a hang-up or an error wakes it
        if any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll()):
            self.exit_event.set()
            with contextlib.suppress(RuntimeError):  # the loop may be closed already
                self._loop.call_soon_threadsafe(getattr(self._app, "terminal_gone", self._app.exit))

    def run_input_thread(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the terminal is gone, the watcher tells
            super().run_input_thread()

    def _enable_mouse_support(self) -> None:
        if self._mouse:
            self.write("\x1b[?1000h\x1b[?1006h")

    def _disable_mouse_support(self) -> None:
        if self._mouse:
            self.write("\x1b[?1000l\x1b[?1006l")

    def _enable_mouse_pixels(self) -> None:
        """Cells are exact enough, and the mode would outlive the program."""


class _Unbreakable:
    """A text file whose writes end silently once the other side is gone."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._is_gone = False

    def write(self, text: str) -> int:
        if not self._is_gone:
            try:
                self._file.write(text)
            except (OSError, ValueError):
                self._is_gone = True
        return len(text)

    def flush(self) -> None:
        if not self._is_gone:
            try:
                self._file.flush()
            except (OSError, ValueError):
                self._is_gone = True
                self._discard()

    def _discard(self) -> None:
        """Point the descriptor elsewhere, or the interpreter reports the failed write once more when it ends."""
        with contextlib.suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._file.fileno())
            os.close(null)

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()
