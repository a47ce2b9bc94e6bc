"""The only writer to stdout: data for people (tables, cleaned text) and for programs (JSON, CSV, raw bytes)."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from app.cli.clean import clean

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
        """Write a table; the columns named in `right` are aligned to the right."""
        self._write("".join(line + "\n" for line in table_lines(titles, list(rows), right=right)))

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

    def home(self) -> None:
        """On a terminal, go to the top left corner and clear what is below."""
        if self.is_terminal and os.environ.get("TERM") != "dumb":
            self._write("\x1b[H\x1b[J")

    def raw(self, data: bytes) -> None:
        """Write bytes as they are, at once: a foreground container's own output."""
        self.flush()
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(1, view) :]
            except BlockingIOError:  # someone set the terminal non-blocking
                _wait_writable(1)

    def flush(self) -> None:
        """Push out what is buffered."""
        sys.stdout.flush()

    def _write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:  # a C locale: better a "?" than no table
            encoding = sys.stdout.encoding or "ascii"
            sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


def table_lines(titles: Sequence[str], rows: Sequence[Sequence[str]], *, right: Iterable[str] = ()) -> list[str]:
    """Return a table's lines: columns as wide as their widest cell, two spaces between, cells cleaned."""
    cleaned = [list(titles), *([clean(cell) for cell in row] for row in rows)]
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


def _wait_writable(fd: int) -> None:
    import select

    select.select([], [fd], [])
