"""The only writer to stdout: data for people (tables, cleaned text) and for programs (JSON, CSV, raw bytes)."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import Any

from app.cli.clean import clean
from app.cli.streams import silence, write_all
from backends.errors import InnkeeperError, os_error_text

_WIDEST = 60
"""Cells of a table on a terminal are at most so wide: one long name must not push all columns off it."""

_STYLES = {"good": "32", "bad": "31", "warn": "33", "dim": "2", "bold": "1"}


class Output:
    """Writes to stdout. Colour only helps: what it says is always said in words too."""

    def __init__(self, *, color: bool = True) -> None:
        self.is_terminal = sys.stdout.isatty()
        self._color = color and self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def line(self, text: str = "") -> None:
        """Write one cleaned line."""
        self._write(clean(text) + "\n")

    def text(self, text: str) -> None:
        """Write our own text (help, completion scripts) as it is."""
        self._write(text)

    def table(self, titles: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
        """Write a table; the columns named in `right` are aligned to the right. On a terminal long cells are cut."""
        widest = _WIDEST if self.is_terminal else None
        self._write("".join(line + "\n" for line in table_lines(titles, list(rows), right=right, widest=widest)))

    def heading(self, text: str) -> None:
        """Write a line that begins a part."""
        self._write(self.paint(clean(text), "bold") + "\n")

    def paint(self, text: str, style: str) -> str:
        """Return the (clean) text in a style, where colours are wanted."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._color and style else text

    def styled(self, *parts: tuple[str, str]) -> None:
        """Write one line of (text, style) parts, each cleaned."""
        self._write("".join(self.paint(clean(text), style) for text, style in parts) + "\n")

    def json(self, value: Any) -> None:
        """Write a JSON document, indented. Escapes all that is not ASCII, so it is harmless on a terminal too."""
        self._write(json.dumps(value, indent=2, default=str) + "\n")

    def json_line(self, value: Any) -> None:
        """Write a JSON value on one line, at once."""
        self._write(json.dumps(value, separators=(",", ":"), default=str) + "\n")
        self.flush()

    def csv_line(self, cells: Iterable[object]) -> None:
        """Write one record of CSV as RFC 4180 has it; None is an empty cell."""
        self._write(",".join(_csv_cell(cell) for cell in cells) + "\n")
        self.flush()

    @property
    def width(self) -> int:
        """Columns of the terminal, as COLUMNS or itself says; 80 where neither does."""
        return get_terminal_size().columns

    @property
    def can_redraw(self) -> bool:
        """True on a terminal that can be written over from the top."""
        return self.is_terminal and os.environ.get("TERM") != "dumb"

    def redraw(self, heading: str, lines: Sequence[str]) -> None:
        """Write a heading and cleaned lines over the terminal from its top left corner, cut to its size."""
        size = os.get_terminal_size(1)
        columns, rows = size.columns or 80, size.lines or 24
        shown = lines[: max(1, rows - 2)]
        if len(shown) < len(lines):
            shown = [*shown[:-1], f"… and {len(lines) - len(shown) + 1} more"]
        first = self.paint(cut(clean(heading), columns), "bold")
        self._write("\x1b[H" + "".join(line + "\x1b[K\n" for line in (first, *(cut(line, columns) for line in shown))))
        self._write("\x1b[J")

    def raw(self, data: bytes) -> None:
        """Write bytes as they are, at once: a foreground container's own output."""
        self.flush()
        with _writing():
            write_all(1, data)

    def flush(self) -> None:
        """Push out what is buffered. Raises InnkeeperError if it cannot be written."""
        with _writing():
            sys.stdout.flush()

    def _write(self, text: str) -> None:
        with _writing():
            try:
                sys.stdout.write(text)
            except UnicodeEncodeError:  # a C locale: better a "?" than no table
                encoding = sys.stdout.encoding or "ascii"
                sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader went away: no error of ours, it has an exit code of its own
        raise
    except OSError as error:
        silence(1)
        raise InnkeeperError(f"cannot write to stdout: {os_error_text(error)}") from error


def table_lines(
    titles: Sequence[str], rows: Sequence[Sequence[str]], *, right: Iterable[str] = (), widest: int | None = None
) -> list[str]:
    """Return a table's lines: columns as wide as their widest cell, two spaces between, cells cleaned (and cut)."""
    cleaned = [list(titles), *([clean(cell) for cell in row] for row in rows)]
    if widest is not None:  # but the last column, which pushes nothing away
        cleaned = [[*(cut(cell, widest) for cell in row[:-1]), row[-1]] for row in cleaned]
    widths = [max(cell_width(row[index]) for row in cleaned) for index in range(len(titles))]
    to_right = set(right)
    lines = []
    for row in cleaned:
        padded = []
        for title, cell, width in zip(titles, row, widths, strict=True):
            room = " " * (width - cell_width(cell))
            padded.append(room + cell if title in to_right else cell + room)
        lines.append("  ".join(padded).rstrip())
    return lines


def cut(text: str, width: int) -> str:
    """Return the text, or its beginning and "…" if it takes more cells than that."""
    if cell_width(text) <= width:
        return text
    kept, used = "", 1
    for character in text:
        used += _character_width(character)
        if used > width:
            break
        kept += character
    return kept + "…"


def cell_width(text: str) -> int:
    """Return how many terminal cells the text takes."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _csv_cell(value: object) -> str:
    if value is None:
        return ""
    text = clean(value) if isinstance(value, str) else str(value)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"') else text
