"""The user's terminal kept from a program in a guest that was not promised one: it gets pipes in its place.

Who holds a terminal can read what is typed there, also after `inn exec` has ended, change its settings, and with
enough rights type into it (TIOCSTI). Files and pipes are handed on as they are.
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress

from app.cli.streams import write_all

_BLOCK = 65536


class Relay:
    """Standard streams for a program, copied to and from ours where those are terminals."""

    def __init__(self, stdin: int) -> None:
        self._theirs: list[int] = []
        """Ends that only the program is to have."""

        self._outputs: list[_Output] = []
        made: dict[int, int] = {}
        self.stdio = self._input(stdin), self._output(1, made), self._output(2, made)

    def handed_over(self) -> None:
        """The program has them: close what is its own."""
        for fd in self._theirs:
            os.close(fd)
        self._theirs = []

    def finish(self) -> None:
        """The program has ended: write out what it left; what others of the guest still write is not waited for."""
        self.handed_over()
        for output in self._outputs:
            output.finish()

    def _input(self, fd: int) -> int:
        if not os.isatty(fd):
            return fd
        reading, writing = os.pipe()
        threading.Thread(target=_feed, args=(fd, writing), name="stdin", daemon=True).start()
        self._theirs.append(reading)
        return reading

    def _output(self, fd: int, made: dict[int, int]) -> int:
        if not os.isatty(fd):
            return fd
        terminal = os.fstat(fd).st_rdev
        if terminal not in made:  # one pipe for both, which keeps the order of what is written
            output = _Output(fd)
            self._outputs.append(output)
            self._theirs.append(output.theirs)
            made[terminal] = output.theirs
        return made[terminal]


class _Output:
    """A pipe whose other end is copied to a terminal by a thread."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._reading, self.theirs = os.pipe()
        self._ended, self._end = os.pipe()
        os.set_blocking(self._reading, False)
        self._thread = threading.Thread(target=self._copy, name="output", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        os.close(self._end)
        self._thread.join()
        for fd in (self._reading, self._ended):
            os.close(fd)

    def _copy(self) -> None:
        with suppress(OSError):  # the terminal has gone
            while True:
                ready, _, _ = select.select([self._reading, self._ended], [], [])
                try:
                    while data := os.read(self._reading, _BLOCK):
                        write_all(self._terminal, data)
                    return
                except BlockingIOError:
                    if self._ended in ready:
                        return


def _feed(terminal: int, writing: int) -> None:
    with suppress(OSError):  # nobody reads it any more
        while data := os.read(terminal, _BLOCK):
            write_all(writing, data)
    os.close(writing)
