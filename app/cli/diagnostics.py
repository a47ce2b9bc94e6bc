"""The only writer to stderr, and the place where an error becomes an exit code.

=====  ==========================================================================
code   meaning
=====  ==========================================================================
0      it worked
1      it did not; one line on stderr says what was tried and what the system said
2      the command line makes no sense (`run`, `exec`: 125)
125    `run`, `exec`: Innkeeper itself failed
126    `run`, `exec`: the program cannot be executed
127    `run`, `exec`: there is no such program
128+n  `run`, `exec`: the program died of signal n
130    interrupted with Ctrl-C
141    the reader of stdout went away
=====  ==========================================================================
"""

from __future__ import annotations

import sys

from app.cli.clean import clean
from app.cli.streams import silence, write_all
from backends.errors import InnkeeperError

FAILED = 1
USAGE = 2
RUNTIME = 125
INTERRUPTED = 130
BROKEN_PIPE = 141


class Talk:
    """Says things to the person, never data."""

    def say(self, text: str) -> None:
        """Write one line."""
        self._write(clean(text))

    def note(self, text: str) -> None:
        """Write one line that begins with the program's name."""
        self._write("inn: " + clean(text))

    def error(self, error: InnkeeperError, *, after: int = 0) -> int:
        """Write the error's line and return the exit code: that of an earlier failure if there was one."""
        self.note(error_line(error))
        return after or error.exit_code

    def raw(self, data: bytes) -> None:
        """Write bytes as they are: a foreground container's own stderr."""
        self._flush()
        write_all(2, data)

    def _write(self, line: str) -> None:
        try:
            encoding = sys.stderr.encoding or "ascii"
            sys.stderr.write(line.encode(encoding, "replace").decode(encoding) + "\n")
        except (OSError, ValueError):  # nobody listens; there is no other place to complain
            silence(2)
            return
        self._flush()

    def _flush(self) -> None:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            silence(2)


def error_line(error: InnkeeperError) -> str:
    """Return "cannot …: what the system said. What to do"."""
    line = error.message.rstrip(".")
    for note in getattr(error, "__notes__", ()):
        line += f"; {note}"
    if not error.hint:
        return line
    stop = "" if line.endswith("?") else "."
    return f"{line}{stop} {error.hint}" if error.hint[:1].isupper() else f"{line} ({error.hint})"
