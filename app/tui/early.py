"""A first picture before Textual is imported: plain escapes, a few milliseconds after the start."""

from __future__ import annotations

import os
import sys

ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J\x1b[H"
LEAVE = "\x1b[?1049l\x1b[?25h"


def paint(names: tuple[str, ...]) -> None:
    """Show at once that something happens; the real screen draws over it."""
    text = f" Innkeeper {_printable(os.uname().nodename)}  opening {', '.join(names)} ..."
    width = os.get_terminal_size(sys.__stderr__.fileno()).columns if sys.__stderr__ is not None else 80
    _write(f"{ENTER}\x1b[1m{_printable(text)[:width]}\x1b[0m")


def take_back() -> None:
    """Leave the alternate screen when the real one could not be opened."""
    _write(LEAVE)


def _write(text: str) -> None:
    if sys.__stderr__ is not None:  # where Textual writes too
        sys.__stderr__.write(text)
        sys.__stderr__.flush()


def _printable(text: str) -> str:
    return "".join([c if c.isascii() and c.isprintable() else "?" for c in text])
